"""How a mask is trained: every number of it, in one frozen place."""

from collections.abc import Iterable
from typing import Any

import pydantic

from ..data.tasks import TaskSpec
from ..errors import DataError
from .sampling import NoiseKind


class Recipe(pydantic.BaseModel):
    """The settings of a training; stored in the mask's lineage.

    Attributes:
        steps: optimiser steps.
        batch: rows a step for each mask in training.
        peak: highest learning rate; then a cosine to `floor`.
        floor: lowest learning rate.
        warmup: steps of linear warm-up.
        tau_begin, tau_end: temperature of the relaxation, falling linearly over `tau_fraction`.
        tau_fraction: up to 1 a share of the steps, so that 1.0 is the whole training; above 1 a number of steps.
        noise: "logistic", or "gumbel" as in the authors' code, which is biased towards off.
        noise_end: the noise's scale falls linearly over the steps from 1 to this; 1 does not change it, as the authors.
        mean, deviation: the logits start at N(mean, deviation).
        sparsity: λ of the penalty λ·Σm on the number of heads that are on.
        first: weight of an answer's first token, which decides the task, against 1 of the others.
        focal: exponent γ of the focal weight (1 − p)^γ: tokens the model is sure of count less.
        margin: sharpness k of the margin loss (`losses.margin_loss`), which needs neither of these weights; 0 for
            cross-entropy.
        evaluations: how often the thresholded mask is tried on dev data; the best is kept.
        dev_clips: on how many clips.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    steps: int = pydantic.Field(400, ge=1)
    batch: int = pydantic.Field(16, ge=1)
    peak: float = pydantic.Field(0.1, gt=0)
    floor: float = pydantic.Field(1e-3, ge=0)
    warmup: int = pydantic.Field(30, ge=0)
    tau_begin: float = pydantic.Field(4.0, gt=0)
    tau_end: float = pydantic.Field(0.5, gt=0)
    tau_fraction: float = pydantic.Field(1.0, ge=0)
    noise: NoiseKind = "logistic"
    noise_end: float = pydantic.Field(1.0, ge=0)
    mean: float = 4.0
    deviation: float = pydantic.Field(0.02, ge=0)
    sparsity: float = pydantic.Field(0.0, ge=0)
    first: float = pydantic.Field(4.0, gt=0)
    focal: float = pydantic.Field(1.0, ge=0)
    margin: float = pydantic.Field(0.0, ge=0)
    evaluations: int = pydantic.Field(5, ge=1)
    dev_clips: int = pydantic.Field(100, ge=1)

    @pydantic.field_validator("tau_fraction")
    @classmethod
    def _share_or_steps(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise ValueError("expected a share of the steps, from 0 to 1, or a whole number of steps")
        return value


COMPOSITE = Recipe(margin=2.0, noise_end=0.0)
"""For masks of composites: what decides stands in many places of their answers (docs/LOG.md)."""

PAPER = Recipe(
    steps=90_000, batch=8, peak=1e-2, floor=1e-4, warmup=3000, tau_end=0.05, tau_fraction=0.3, noise="gumbel",
    sparsity=1e-4, first=1.0, focal=0.0, evaluations=30,
)  # fmt: skip
"""The authors' released configuration (DESIGN: their weight decay never reaches the logits)."""


def choose_recipe(tasks: Iterable[TaskSpec], paper: bool = False, **changes: Any) -> Recipe:  # noqa: ANN401
    """The recipe for some tasks that are trained together.

    Args:
        tasks: composites have a recipe of their own, where all are.
        paper: the authors' configuration instead.
        changes: settings that differ; None changes nothing. A training that is shortened warms up for a quarter of it at most.

    Raises:
        DataError: a setting is out of its range.
    """
    given = {key: value for key, value in changes.items() if value is not None}
    composites = all(task.form != "plain" for task in tasks)
    base = PAPER if paper else COMPOSITE if composites else Recipe()
    if "steps" in given and given["steps"] < base.warmup * 4:
        given.setdefault("warmup", max(0, int(given["steps"]) // 4))
    try:
        return Recipe.model_validate(base.model_dump() | given)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ").lower()
        raise DataError(f"cannot train with {first['loc'][0]} {first['input']}: {message}") from None
