"""`Decider`: from what the network says and the masks that there are to what is done."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from jaxtyping import Bool
from torch import Tensor

from ..data.tasks import Task, TaskSpec
from ..mask_bank.mask import HeadMask
from .decision import Decision, How, Kind, Neighbour
from .keys import json_keys
from .material import bare
from .nearest import WordingIndex
from .predictor import Heard, Predictor, said_for
from .reading import NONE, Reading

UNCLEAR = 0.2  # chance among all readings that can be served, below which the likeliest is no answer to what was meant
ALIKE = 0.75  # cosine from which the nearest wording decides for a task that was never trained


class Decider:
    """Decides for one bank. Making one takes longer than deciding: keep it for the next instruction.

    A reading can be served where there is a mask for it, or one for each of its parts.

    Args:
        predictor: reads the instructions.
        masks: what there is; of two for one task the last counts.
    """

    def __init__(self, predictor: Predictor, masks: Iterable[HeadMask]) -> None:
        self.predictor = predictor
        having = [mask for mask in masks if mask.task is not None]
        self.masks = {Reading(mask.task.names, mask.task.form): mask for mask in having if mask.task}
        self.tasks: dict[str, Task] = {part.name: part for mask in having if mask.task for part in mask.task.parts}
        self._known = self._own_wordings()

    def _own_wordings(self) -> dict[str, Reading]:
        """The wordings that tasks come with, of tasks that have a mask; none that two tasks have."""
        found: dict[str, Reading | None] = {}
        for name, task in self.tasks.items():
            reading = Reading((name,))
            for text in task.wordings if reading in self.masks else ():
                key = _plain(text)
                found[key] = reading if found.get(key, reading) == reading else None
        return {text: reading for text, reading in found.items() if reading}

    def can(self, reading: Reading) -> bool:
        """Whether there is a mask for a reading, or one for each of its parts."""
        return reading in self.masks or all(Reading((part,)) in self.masks for part in reading.parts)

    @cached_property
    def _fits(self) -> Bool[Tensor, " reading"]:
        return torch.tensor([self.can(reading) for reading in self.predictor.possible.readings])

    def decide(self, instructions: Sequence[str], *, raw: bool = False, neighbours: bool = True) -> list[Decision]:
        """What to do about each instruction.

        Args:
            instructions: what was said.
            raw: run the predicted bits instead of the bank's mask, which there need not be.
            neighbours: name the nearest tasks also where the instruction is clear, which takes as long again.
        """
        found = []
        instructions = [text.encode("utf-8", "replace").decode() for text in instructions]  # no halves of characters
        new = self._untrained(instructions)
        for text, heard, task in zip(instructions, self.predictor.hear(instructions), new, strict=True):
            decision = self._decide(text, heard, raw) if raw or task is None else task
            if neighbours or decision.kind == "refuse":
                decision = replace(decision, neighbours=self.neighbours(text, heard))
            found.append(decision)
        return found

    def _decide(self, text: str, heard: Heard, raw: bool) -> Decision:
        """The likeliest reading that can be served, if something can be and it is clear what; a task's own wording always is."""
        calibration = self.predictor.record.calibration
        reading = self._known.get(_plain(text))
        if reading is not None:
            return self._serve(text, reading, 1.0, 1.0, heard, raw)
        chances = (heard.chances if raw else heard.chances * self._fits)[:-1]
        confidence, at = calibration.confidence(float(chances.sum())), int(chances.argmax())
        chance = float(chances[at] / chances.sum().clamp(min=1e-9))
        other = float(heard.chances[:-1].max()) > float(chances[at])  # what is likelier has no mask
        said = any(letter.isalnum() for letter in text)
        if other or not said or not confidence >= calibration.threshold or not chance >= UNCLEAR:
            return Decision(text, "refuse", NONE, confidence, chance)
        return self._serve(text, self.predictor.possible.readings[at], confidence, chance, heard, raw)

    def _serve(self, text: str, reading: Reading, confidence: float, chance: float, heard: Heard, raw: bool) -> Decision:
        """The mask or masks for a reading: the bank's own or its parts', or the predicted bits."""
        keys = json_keys(text, len(reading.parts)) if reading.form == "json" else ()
        known = {task.name: task for task in self.predictor.record.tasks} | self.tasks
        parts = tuple(known[part] for part in reading.parts)
        spec = TaskSpec(parts=parts, form=reading.form, keys=() if keys == reading.parts else keys)
        how: How = "bits" if raw else "one-pass" if self._in_one_pass(spec, reading) else "parallel"
        mask = self._predicted(text, spec, heard) if raw else self.masks[reading] if how == "one-pass" else None
        kind: Kind = "mask" if len(parts) == 1 else "composite"
        return Decision(text, kind, reading, confidence, chance, spec=spec, how=how, mask=mask)

    def _in_one_pass(self, spec: TaskSpec, reading: Reading) -> bool:
        """Whether its own mask does it, as `amask run` chooses: it reached its target, or parts have none."""
        whole = self.masks.get(reading)
        if whole is None or whole.task is None or len(reading.parts) == 1:
            return whole is not None
        good = whole.task.json_keys == spec.json_keys and bool(whole.reached_target)
        return good or not all(Reading((part,)) in self.masks for part in reading.parts)

    def _predicted(self, text: str, spec: TaskSpec, heard: Heard) -> HeadMask:
        """The mask of the predicted bits."""
        lineage = {"operation": "predicted", "instruction": text, "masks": dict(self.predictor.record.masks)}
        return HeadMask.from_logits(heard.logits, self.predictor.identity, task=spec, lineage=lineage)

    def neighbours(self, text: str, heard: Heard, count: int = 2) -> tuple[Neighbour, ...]:
        """The tasks that are likeliest a part of what was asked for, each with the nearest of its own wordings."""
        chances = self.predictor.possible.of_parts(heard.chances)
        nearest = self.predictor.suggestions.nearest([text])[0]
        there = [task for task in chances if Reading((task,)) in self.masks]
        likely = sorted(there or chances, key=lambda task: (-round(chances[task], 2), -nearest[task][0]))
        return tuple(Neighbour(task, chances[task], nearest[task][1]) for task in likely[:count])

    @cached_property
    def _new(self) -> WordingIndex | None:
        """The wordings of tasks that the predictor was never trained for."""
        trained = {task.name for task in self.predictor.record.tasks}
        names = [name for name in self.tasks if name not in trained and Reading((name,)) in self.masks]
        said = {name: said_for(self.tasks[name]) for name in names}
        return WordingIndex(self.predictor.encoder, said) if any(said.values()) else None

    def _untrained(self, instructions: Sequence[str]) -> list[Decision | None]:
        """Decisions for tasks that the predictor was never trained for, where a wording of theirs is the nearest, and near."""
        if self._new is None:
            return [None] * len(instructions)
        found: list[Decision | None] = []
        ours = self.predictor.wordings.nearest(instructions)
        for text, near, other in zip(instructions, self._new.nearest(instructions), ours, strict=True):
            task, (alike, _) = next(iter(near.items()))
            reading, spec = Reading((task,)), TaskSpec(parts=(self.tasks[task],))
            nearest = alike >= max(ALIKE, *(each for each, _ in other.values()))
            decision = Decision(text, "mask", reading, min(1.0, alike), 1.0, spec=spec, how="one-pass", mask=self.masks[reading])
            found.append(decision if nearest and any(letter.isalnum() for letter in text) else None)
        return found


def _plain(text: str) -> str:
    """A request without marks and politeness."""
    return bare(text).removeprefix("please ").removesuffix(" please")
