"""Nearest wordings: examples for messages, and tasks that join without any training."""

import itertools
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from .encoder import Encoder


class WordingIndex:
    """Wordings of tasks, by their sentence vectors.

    Args:
        encoder: gives the vectors; wordings are encoded when they are first asked for.
        wordings: a task's name → what people say for it.
    """

    def __init__(self, encoder: Encoder, wordings: Mapping[str, Sequence[str]]) -> None:
        self.encoder = encoder
        there = {task: texts for task, texts in wordings.items() if texts}
        self.texts = tuple(text for texts in there.values() for text in texts)
        self.tasks, self.sizes = tuple(there), [len(texts) for texts in there.values()]

    @cached_property
    def _vectors(self) -> Float[Tensor, "wording size"]:
        return torch.cat([self.encoder.sentences(self.texts[start : start + 256]) for start in range(0, len(self.texts), 256)])

    def nearest(self, instructions: Sequence[str]) -> list[dict[str, tuple[float, str]]]:
        """For each instruction: task → how alike its nearest wording is (cosine), and that wording; the most alike first."""
        if not self.texts:
            return [{} for _ in instructions]
        alike = self.encoder.sentences(instructions) @ self._vectors.T
        starts = [0, *itertools.accumulate(self.sizes)]
        best = [part.max(1) for part in alike.split(self.sizes, 1)]
        found = []
        for row in range(len(instructions)):
            near = [
                (float(values[row]), self.texts[start + int(at[row])], task)
                for (values, at), start, task in zip(best, starts, self.tasks, strict=False)
            ]
            found.append({task: (alike, text) for alike, text, task in sorted(near, key=lambda each: -each[0])})
        return found
