"""The harness: a task by its mask, by prompts, unprompted, and by random masks, on the same clips."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..data.manifest import Clip, Manifest
from ..data.tasks import TaskSpec
from ..data.wordings import wordings
from ..lalm.answering import MAX_NEW_TOKENS, Rows, answers, in_batches
from ..lalm.base import LALM
from ..lalm.batching import AudioFeatures
from ..mask_bank.files import StoredMask
from ..mask_bank.mask import HeadMask
from .controls import random_like
from .predictions import Condition, Prediction


def clips_for(task: TaskSpec, manifest: Manifest, split: str, kind: str | None = None) -> Manifest:
    """The clips of a split that measure a task: they have a label for each of its parts, and of asr a word to hear.

    Args:
        task: the task.
        manifest: the clips.
        split: train, dev or test.
        kind: only clips of this kind; by default the kinds of the task's parts, where every clip that has the labels has a
            kind and one of them is of these, else all.
    """
    labelled = manifest.labelled(task.parts).select(split, task.names)
    found = [clip for clip in labelled if all(clip.labels[name] for name in task.names)]
    kinds = {kind} if kind else _kinds(task)
    own = [clip for clip in found if clip.kind in kinds]
    chosen = own if kind or (own and all(clip.kind for clip in found)) else found
    return replace(manifest, clips=tuple(chosen))


def _kinds(task: TaskSpec) -> set[str]:
    """The kinds of clips that measure a task: those that its parts ask for, or plain speech where none does."""
    return {part.kind for part in task.parts} - {"speech"} or {"speech"}


@dataclass(frozen=True)
class Trial:
    """One run over the clips: what makes the model do the task.

    Attributes:
        condition: by a mask, a prompt, unprompted, or a random mask.
        wording: the prompt, or which random mask it is.
        mask: the mask whose heads are on.
        name: that of the mask, or of the mask that a random one is made like.
    """

    condition: Condition
    wording: str
    mask: HeadMask | None = None
    name: str = ""


def trials(task: TaskSpec, mask: HeadMask | None, prompts: int, seeds: int) -> list[Trial]:
    """What is tried for a task: its mask if there is one, up to some prompts, unprompted, and random masks."""
    name = mask.spec if isinstance(mask, StoredMask) else ""
    found = [Trial("mask", "", mask, name)] if mask else []
    said = wordings(task)
    chosen = [said[i * len(said) // prompts] for i in range(prompts)] if len(said) > prompts else said
    found += [Trial("prompt", wording) for wording in chosen]
    found.append(Trial("unprompted", ""))
    if mask:
        found += [Trial("random", f"seed {seed}", random_like(mask, seed), name) for seed in range(1, seeds + 1)]
    return found


def predict(
    model: LALM,
    features: Rows,
    clips: Sequence[Clip],
    task: TaskSpec,
    trial: Trial,
    *,
    batch: int = 32,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> list[Prediction]:
    """The model's answers in one trial.

    Args:
        model: the model.
        features: of the clips.
        clips: with labels for the task.
        task: what the answers are measured as.
        trial: what makes the model do it.
        batch: clips at once.
        max_new_tokens: where an answer is cut; no reference has a part in that.

    Raises:
        MaskError: the trial's mask is not for this model.
    """
    gates = None
    if trial.mask is not None:
        trial.mask.require(model)
        gates = trial.mask.gates.to(model.device)
    said = trial.wording if trial.condition == "prompt" else None
    found = answers(model, in_batches(features, batch), gates, said, max_new_tokens=max_new_tokens)
    likely = _likelihoods(model, in_batches(features, batch), task, gates, said)
    return [
        Prediction(
            path=clip.path,
            task=task.name,
            condition=trial.condition,
            mask=trial.name,
            wording=trial.wording,
            answer=answer.text,
            reference=task.target(clip.labels),
            truncated=answer.truncated,
            likelihoods=each,
        )
        for clip, answer, each in zip(clips, found, likely, strict=True)
    ]


@torch.no_grad()
def _likelihoods(
    model: LALM, batches: Iterable[AudioFeatures], task: TaskSpec, gates: Tensor | None, said: str | None
) -> list[dict[str, float] | None]:
    """Condition likely the model finds each label, of each clip, where the task's metric asks for it; the sum is 1."""
    labels, asked = task.parts[0].labels, task.form == "plain" and task.parts[0].metric == "eer"
    found: list[dict[str, float] | None] = []
    for heard in batches:
        if not asked:
            found += [None] * len(heard)
            continue
        losses = [model.token_losses(heard, [label] * len(heard), gates, said)[0].sum(1) for label in labels]
        shares = (-torch.stack(losses, 1)).softmax(1).tolist()
        found += [dict(zip(labels, row, strict=True)) for row in shares]
    return found
