"""How likely a model finds each of a closed set of answers; what a task with labels answers is the likeliest of them."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ModelError
from .batching import AudioFeatures
from .gating import GatesLike, gated
from .scoring import Prompts, ScoringModel


@torch.no_grad()
def label_probabilities(
    model: ScoringModel,
    features: AudioFeatures,
    labels: Sequence[str],
    gates: GatesLike = None,
    prompts: Prompts = None,
) -> Float[Tensor, "row label"]:
    """The probability of each answer among all of a closed set: p(answer | clip), end token included, normalised over the set.

    Args:
        model: the model.
        features: encoded audio.
        labels: the closed set of answers.
        gates: head gates, for all rows or for each.
        prompts: for all rows or for each; none by default.

    Raises:
        ModelError: there are no labels, or the model cannot score given answers.
    """
    if not labels:
        raise ModelError("got no labels to compare; expected the closed set of a task's answers")
    if not model.can_score:
        raise ModelError(f"{model.name} cannot score given answers, so it cannot choose among labels; use --unconstrained")
    fitting = model.checked_gates(features, gates)
    texts = model.prompts_by_row(features, prompts)
    with model.exclusive, gated(model.sites, fitting):
        found = model.score_answers(features, [model.answer_ids(label) for label in labels], texts)
    return found.softmax(1).cpu()


def likeliest(answers: Sequence[str], probabilities: Float[Tensor, "row answer"]) -> list[tuple[str, float]]:
    """Each row's likeliest answer and its probability; of equal ones the first."""
    values, places = probabilities.max(1)
    return [(answers[at], value) for at, value in zip(places.tolist(), values.tolist(), strict=True)]
