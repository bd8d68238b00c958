"""How temperature, noise and learning rate change while a mask is trained: τ and the rate as in AHAMask's released loop.

A step's value is used for that step's update; the first step is 0.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class LinearSchedule:
    """Linear from `begin` to `end` and constant afterwards, as the authors' temperature τ.

    Attributes:
        begin: the value at step 0.
        end: the value from the end of the decay on.
        decay: length of the decay: up to 1 a share of all steps (1.0 is the whole training, 0 means `end` throughout),
            above 1 a number of steps. (The authors take 1.0 for one step.)
        steps: all steps of the training.
    """

    begin: float
    end: float
    decay: float
    steps: int

    @property
    def decay_steps(self) -> int:
        """The first step at which the value is `end`."""
        return int(self.decay * self.steps if self.decay <= 1 else self.decay)  # 0.29 of 200 are 57 in floats, as the authors'

    def at(self, step: int) -> float:
        """The value of a step."""
        if step >= self.decay_steps:
            return self.end
        return self.begin + (self.end - self.begin) * step / self.decay_steps


@dataclass(frozen=True)
class LearningRateSchedule:
    """Learning rate with a linear warm-up and then a cosine.

    The cosine runs over *all* steps, warm-up included, so that the rate drops a little where the warm-up ends.

    Attributes:
        peak: the rate that the warm-up leads to.
        minimum: the rate that the cosine leads to.
        warmup: steps of the warm-up.
        steps: all steps of the training.
        start: the rate at step 0; None for the peak, which makes the warm-up constant.
        steps_per_epoch: where given, a warm-up that is longer than an epoch starts over with each epoch, as the authors'
            does; None for one warm-up.
    """

    peak: float
    minimum: float
    warmup: int
    steps: int
    start: float | None = None
    steps_per_epoch: int | None = None

    def at(self, step: int) -> float:
        """The learning rate of a step."""
        if step < self.warmup:
            start = self.peak if self.start is None else self.start
            warmed = step if self.steps_per_epoch is None else step % self.steps_per_epoch
            return start + (self.peak - start) * warmed / self.warmup
        return self.minimum + (self.peak - self.minimum) * (1 + math.cos(math.pi * step / self.steps)) / 2
