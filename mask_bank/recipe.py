"""How a mask is trained: every number of it, in one frozen place."""

from collections.abc import Iterable
from typing import Any

import pydantic

from ..data.tasks import TaskSpec
from ..data.wordings import wordings
from ..errors import DataError
from ..lalm.base import LALM
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
        noise_begin, noise_end: the noise's scale goes linearly over the steps from one to the other; 1 does not change it, as
            the authors.
        mean, deviation: the logits start at N(mean, deviation).
        sparsity: λ of the penalty λ·Σm on the number of heads that are on.
        first: weight of an answer's first token, which decides the task, against 1 of the others; of a held answer that of the
            tokens that choose a label.
        held: the share of the loss that counts, at each place of an answer, only the tokens that the task's constraint allows
            there, and nothing where it allows one alone: by it a mask learns what is left to it when it is used, and by the rest
            to say its answers freely.
        distillation: the share of the rest that is learned not from right answers alone, but from what the model itself finds
            likely when it is prompted with one of the task's wordings; for tasks that it does well by prompt.
        focal: exponent γ of the focal weight (1 − p)^γ: tokens the model is sure of count less.
        evaluations: how often the thresholded mask is tried on dev data; the best is kept.
        patience: after how many of these tries in a row without a better one the training ends; 0 for never.
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
    noise_begin: float = pydantic.Field(1.0, ge=0)
    noise_end: float = pydantic.Field(1.0, ge=0)
    mean: float = 4.0
    deviation: float = pydantic.Field(0.02, ge=0)
    sparsity: float = pydantic.Field(0.0, ge=0)
    first: float = pydantic.Field(4.0, gt=0)
    focal: float = pydantic.Field(1.0, ge=0)
    held: float = pydantic.Field(0.0, ge=0, le=1)
    distillation: float = pydantic.Field(0.0, ge=0, le=1)
    evaluations: int = pydantic.Field(5, ge=1)
    patience: int = pydantic.Field(0, ge=0)
    dev_clips: int = pydantic.Field(100, ge=1)

    @pydantic.field_validator("tau_fraction")
    @classmethod
    def _share_or_steps(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise ValueError("expected a share of the steps, from 0 to 1, or a whole number of steps")
        return value

    def check_distillation(self, tasks: Iterable[TaskSpec]) -> None:
        """Find out if there is something to distil, where that is wanted.

        Raises:
            DataError: a task has no wordings, or all of the loss is held.
        """
        if self.distillation > 0 and self.held == 1:
            reason = "a composite learns only what its form leaves open, and distils nothing"
            raise DataError(f"{reason}; leave --distillation out, or take --recipe small")
        for task in tasks if self.distillation > 0 else ():
            if not wordings(task):
                raise DataError(f"{task.name} has no wordings to distil from; give it some in a tasks.toml, or distil nothing")


SMALL = Recipe(
    steps=140, batch=12, peak=0.1, warmup=14, tau_begin=1.0, tau_end=1.0, noise_begin=0.5, noise_end=0.0, mean=2.0, first=16.0,
    evaluations=5, patience=3,
)  # fmt: skip
"""For models of up to `SMALL_MODEL` parameters, such as the pocket model: few large steps from logits near 0, and an answer's
first token, which chooses the task, counts most (docs/LOG.md)."""

COMPOSITE = SMALL.model_copy(update={"held": 1.0, "first": 4.0})
"""For composites on such models: code holds their form, so only what it leaves open is learned (docs/LOG.md)."""

LARGE = Recipe(
    steps=3000, batch=8, peak=1e-2, floor=1e-4, warmup=100, tau_end=0.05, tau_fraction=0.3, sparsity=1e-4, first=1.0, focal=0.0,
    evaluations=15, patience=5,
)  # fmt: skip
"""For larger models: the authors' rate, temperature and λ in a thirtieth of their steps, with noise that has no bias."""

PAPER = Recipe(
    steps=90_000, batch=8, peak=1e-2, floor=1e-4, warmup=3000, tau_end=0.05, tau_fraction=0.3, noise="gumbel",
    sparsity=1e-4, first=1.0, focal=0.0, evaluations=30,
)  # fmt: skip
"""The authors' released configuration (DESIGN: their weight decay never reaches the logits)."""

RECIPES = {"small": SMALL, "composite": COMPOSITE, "large": LARGE, "paper": PAPER}
SMALL_MODEL = 300_000_000  # parameters of a model for which the small recipes are meant
MAX_PEAK = 0.5  # of the rate of a training that is shortened


def choose_recipe(
    tasks: Iterable[TaskSpec],
    name: str = "auto",
    parameters: int | None = None,
    **changes: Any,  # noqa: ANN401
) -> Recipe:
    """The recipe for some tasks that are trained together.

    Args:
        tasks: on small models composites have a recipe of their own, where all tasks are.
        name: one of `RECIPES`, or auto: by the model's size and the tasks.
        parameters: of the model; None counts as small.
        changes: settings that differ; None changes nothing. With other `steps` the schedules scale: the warm-up keeps its share,
            and a shorter training gets a higher rate, so that logits can travel as far.

    Raises:
        DataError: there is no such recipe, a setting is out of its range, or a task has no prompt that could be distilled.
    """
    tasks = list(tasks)
    given = {key: value for key, value in changes.items() if value is not None}
    if name == "auto":
        large = parameters is not None and parameters > SMALL_MODEL
        name = "large" if large else "composite" if all(task.form != "plain" for task in tasks) else "small"
    if name not in RECIPES:
        raise DataError(f"there is no recipe {name!r}; there are auto, {', '.join(RECIPES)}")
    base = RECIPES[name]
    if isinstance(given.get("steps"), int) and given["steps"] > 0:
        given = _scaled(base, given["steps"]) | given
    try:
        recipe = Recipe.model_validate(base.model_dump() | given)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ").lower()
        raise DataError(f"cannot train with {first['loc'][0]} {first['input']}: {message}") from None
    recipe.check_distillation(tasks)
    return recipe


def model_size(model: LALM) -> int:
    """How many parameters a model has, its audio encoder included."""
    return sum(parameter.numel() for parameter in model.model.parameters())


def _scaled(base: Recipe, steps: int) -> dict[str, Any]:
    """What of a recipe goes with its number of steps."""
    share = steps / base.steps
    peak = base.peak if share >= 1 else max(base.peak, min(base.peak / share, MAX_PEAK))
    return {"warmup": int(base.warmup * share), "peak": peak}
