"""Readings: which tasks an instruction asks for, in which order and form, or none; and how likely each of them is.

The network scores each place of the answer by itself. Here these scores become probabilities of *possible* readings:
no part twice, no gap before a part, one part is plain, several are joined by bars or are JSON.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from itertools import permutations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..data.tasks import Form

SLOTS = 3  # parts that an answer may have
FORMS: tuple[Form, ...] = ("pipe", "json")
SURE = 0.6  # how much the network counts beside the letters in which task it is: it is surer than it is right, as dev shows


@dataclass(frozen=True)
class Reading:
    """What an instruction asks for.

    Attributes:
        parts: names of tasks in the order of the answer; empty where no task serves.
        form: "plain" for one part or none, else "pipe" or "json".
    """

    parts: tuple[str, ...] = ()
    form: Form = "plain"

    def __str__(self) -> str:
        """`gr`, `gr|asr`, `{asr,gr}`; nothing where no task serves."""
        return f"{{{','.join(self.parts)}}}" if self.form == "json" else "|".join(self.parts)


NONE = Reading()


@dataclass(frozen=True)
class Scores:
    """The network's scores of some instructions.

    Attributes:
        part: of each task at each place of the answer; the last column is "no part here".
        form: of pipe and JSON, where there are several parts.
        none: that no task serves.
    """

    part: Float[Tensor, "row slot choice"]
    form: Float[Tensor, "row form"]
    none: Float[Tensor, " row"]


@dataclass(frozen=True)
class Possible:
    """All readings of some tasks. The last one is that no task serves.

    Attributes:
        readings: all of them.
        slots: each reading's choice for each place; of the last reading all are "no part".
        form: 0 pipe, 1 JSON, 2 neither.
    """

    readings: tuple[Reading, ...]
    slots: Int[Tensor, "reading slot"]
    form: Int[Tensor, " reading"]

    def index(self, reading: Reading) -> int:
        """A reading's number."""
        return _numbers(self.readings)[reading]

    def log_chances(self, scores: Scores) -> Float[Tensor, "row reading"]:
        """The log-probability of each reading; a row's probabilities add up to 1."""
        served = self._joint(scores).log_softmax(-1) + torch.nn.functional.logsigmoid(-scores.none)[:, None]
        return torch.cat([served, torch.nn.functional.logsigmoid(scores.none)[:, None]], 1)

    def chances(self, scores: Scores, alone: Float[Tensor, "row task"]) -> Float[Tensor, "row reading"]:
        """The probability of each reading, when letters have their say in which task it is where it is one.

        How likely it is that one task alone is asked for stays the same. In training the letters have no say: a network that
        can lean on them reads worse by itself.

        Args:
            scores: the network's.
            alone: of the letters, for each task.
        """
        none = scores.none.sigmoid()[:, None]
        joint = self._joint(scores)
        one, several = joint.split([alone.shape[1], joint.shape[1] - alone.shape[1]], 1)  # readings of one task come first
        which = (SURE * one.log_softmax(1) + alone.log_softmax(1)).log_softmax(1)
        one = which + one.logsumexp(1, keepdim=True)
        return torch.cat([torch.cat([one, several], 1).softmax(-1) * (1 - none), none], 1)

    def _joint(self, scores: Scores) -> Float[Tensor, "row served"]:
        """Scores of the readings that tasks serve, up to a number that all of a row share: sums over places and form."""
        form = scores.form.log_softmax(-1)
        found = torch.cat([scores.part.flatten(1), form, form.new_zeros(len(form), 1)], 1)
        return found.index_select(1, self.summed).view(len(found), SLOTS + 1, -1).sum(1)

    @cached_property
    def summed(self) -> Int[Tensor, " term"]:
        """Where the terms of each served reading stand among all scores: a reading without a form has 0 for it."""
        count = len({reading.parts for reading in self.readings if len(reading.parts) == 1}) + 1
        with torch.inference_mode(False):  # it is kept, and a training may come after
            places = [self.slots[:-1, slot] + count * slot for slot in range(SLOTS)]
            return torch.cat([*places, self.form[:-1] + count * SLOTS])

    def of_parts(self, chances: Float[Tensor, " reading"]) -> dict[str, float]:
        """How likely each task is a part of what was asked for."""
        tasks = [reading.parts[0] for reading in self.readings if len(reading.parts) == 1]
        has = torch.zeros(len(self.readings), len(tasks) + 1).scatter_(1, self.slots, 1.0)
        return dict(zip(tasks, (chances @ has).tolist()[:-1], strict=True))


@cache
def _numbers(readings: tuple[Reading, ...]) -> dict[Reading, int]:
    return {reading: at for at, reading in enumerate(readings)}


@cache
def possible_readings(parts: tuple[str, ...]) -> Possible:
    """All readings of some tasks."""
    readings = [Reading((part,)) for part in parts]
    readings += [Reading(chosen, form) for n in range(2, SLOTS + 1) for form in FORMS for chosen in permutations(parts, n)]
    readings.append(NONE)
    number = {part: at for at, part in enumerate(parts)}
    slots = [[number[part] for part in r.parts] + [len(parts)] * (SLOTS - len(r.parts)) for r in readings]
    form = [FORMS.index(r.form) if r.form in FORMS else len(FORMS) for r in readings]
    return Possible(tuple(readings), torch.tensor(slots), torch.tensor(form))
