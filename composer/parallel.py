"""Several masks for the same clips: rows of one batch over one audio encoding, each row with the gates of its own mask."""

from collections.abc import Mapping, Sequence

import torch

from ..data.tasks import BAR, TaskSpec
from ..lalm.assembly import AudioFeatures
from ..lalm.base import LALM
from ..mask_bank.mask import HeadMask

TOGETHER = 64  # rows that are answered at once


def answer_each(
    model: LALM,
    features: AudioFeatures,
    masks: Sequence[HeadMask],
    *,
    max_new_tokens: int,
    beams: int = 1,
    batch: int = TOGETHER,
) -> list[list[str]]:
    """What each of several masks answers to each clip.

    Args:
        model: the model.
        features: the clips, encoded once.
        masks: of this model.
        max_new_tokens: where an answer is cut.
        beams: 1 for greedy search.
        batch: rows at once, a row being a clip with a mask.

    Returns:
        Answers by mask and clip.

    Raises:
        MaskError: a mask is for another model.
    """
    for mask in masks:
        mask.require(model)
    gates = torch.stack([mask.gates for mask in masks]).to(model.device)
    rows = [(clip, at) for clip in range(len(features)) for at in range(len(masks))]
    found: list[list[str]] = [[] for _ in masks]
    for start in range(0, len(rows), batch):
        clips, chosen = zip(*rows[start : start + batch], strict=True)
        texts = model.generate(features.rows(list(clips)), gates[list(chosen)], max_new_tokens=max_new_tokens, num_beams=beams)
        for at, text in zip(chosen, texts, strict=True):
            found[at].append(text)
    return found


def assemble(spec: TaskSpec, answers: Mapping[str, str]) -> str:
    """A composite's answer of its parts' answers, in the right form whatever they say.

    Between the bars of a pipe an answer's own bars and line breaks become spaces.
    """
    if spec.form == "pipe":
        answers = {name: " ".join(text.replace(BAR, " ").split()) for name, text in answers.items()}
    return spec.target(answers)
