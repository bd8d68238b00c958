"""Nearest wordings: examples for messages, and tasks that join without any training."""

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
        self.texts = tuple(text for texts in wordings.values() for text in texts)
        self.tasks = tuple(task for task, texts in wordings.items() for _ in texts)

    @cached_property
    def _vectors(self) -> Float[Tensor, "wording size"]:
        return torch.cat([self.encoder.sentences(self.texts[start : start + 256]) for start in range(0, len(self.texts), 256)])

    def nearest(self, instructions: Sequence[str]) -> list[dict[str, tuple[float, str]]]:
        """For each instruction: task → how alike its nearest wording is (cosine), and that wording; the most alike first."""
        if not self.texts:
            return [{} for _ in instructions]
        alike = self.encoder.sentences(instructions) @ self._vectors.T
        found = []
        for row in alike:
            best: dict[str, tuple[float, str]] = {}
            for at in row.argsort(descending=True).tolist():
                best.setdefault(self.tasks[at], (float(row[at]), self.texts[at]))
            found.append(best)
        return found
