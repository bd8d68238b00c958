"""How likely a model finds each of some answers: the confidence of a label, and the score of a yes or no."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ModelError
from .base import LALM, Gates
from .batching import AudioFeatures


@torch.no_grad()
def label_likelihoods(
    model: LALM,
    features: AudioFeatures,
    labels: Sequence[str],
    gates: Gates = None,
    prompts: Sequence[str] | None = None,
) -> Float[Tensor, "row label"]:
    """The probability of each label among all of them: p(label | clip), end token included, normalised over the labels.

    Args:
        model: the model.
        features: encoded audio.
        labels: the closed set of answers.
        gates: head gates, for all rows or for each.
        prompts: one a row; none by default.

    Raises:
        ModelError: there are no labels.
    """
    if not labels:
        raise ModelError("got no labels to compare; expected the closed set of a task's answers")
    found = []
    for label in labels:
        losses, _ = model.token_losses(features, [label] * len(features), gates, prompts)
        found.append(-losses.sum(1))
    return torch.stack(found, 1).softmax(1).cpu()
