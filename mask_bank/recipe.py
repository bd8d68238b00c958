"""How a mask is trained: every number of it, in one frozen place."""

import pydantic

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
        margin: sharpness k of the margin loss (`training.margin_loss`), which needs neither of these weights; 0 for
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
