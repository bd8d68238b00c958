"""The harness: a task by its mask, by prompts, unprompted, and by masks that should not do it, on the same clips.

Every condition is answered by the function that `amask run` answers by, under the task's constraint (labels by their
likelihood, composites held to their form), and once more held to nothing. The constraint alone can do a task: which label a
clip has may be the likeliest under any mask. So controls are measured under it, too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..data.kinds import measuring
from ..data.manifest import Clip, Manifest
from ..data.tasks import TaskSpec
from ..data.wordings import wordings
from ..lalm.answering import MAX_NEW_TOKENS, Answer, Rows, in_batches
from ..lalm.base import LALM
from ..lalm.constrained_decoding import task_constraint
from ..lalm.parallel import TaskRow, answer_task_rows
from ..mask_bank.files import StoredMask
from ..mask_bank.mask import HeadMask
from .controls import random_like
from .predictions import Condition, Prediction

ALL_SPLITS = "all"


def clips_for(task: TaskSpec, manifest: Manifest, split: str, kind: str | None = None) -> Manifest:
    """The clips of a split that measure a task: they have a label for each of its parts, and of asr a word to hear.

    Args:
        task: the task.
        manifest: the clips.
        split: train, dev, test, or all.
        kind: only clips of this kind; by default those that measure the task (`data.kinds.measuring`).
    """
    labelled = manifest.labelled(task.parts).select(None if split == ALL_SPLITS else split, task.names)
    found = [clip for clip in labelled if all(clip.labels[name] for name in task.names)]
    if kind:
        chosen = [clip for clip in found if clip.kind == kind]
    else:
        chosen = [found[at] for at in measuring(task, [clip.kind for clip in found])]
    return replace(manifest, clips=tuple(chosen))


@dataclass(frozen=True)
class Trial:
    """One run over the clips: what makes the model do the task.

    Attributes:
        condition: by a mask, a prompt, unprompted, a random mask, or another task's mask.
        wording: the prompt, which random mask it is, or which other mask.
        mask: the mask whose heads are on.
        name: that of the mask, or of the mask that a control is held against.
    """

    condition: Condition
    wording: str
    mask: HeadMask | None = None
    name: str = ""


def trials(
    task: TaskSpec, mask: HeadMask | None, prompts: int, seeds: int, others: Mapping[str, HeadMask] | None = None
) -> list[Trial]:
    """What is tried for a task: its mask if there is one, up to some prompts, unprompted, random masks, and other masks.

    Args:
        task: the task.
        mask: its mask.
        prompts: wordings at most, spread evenly over those that there are.
        seeds: random masks with as many heads on in each layer.
        others: masks of other tasks, by name.
    """
    name = mask.spec if isinstance(mask, StoredMask) else ""
    found = [Trial("mask", "", mask, name)] if mask else []
    texts = wordings(task)
    chosen = [texts[i * len(texts) // prompts] for i in range(prompts)] if len(texts) > prompts else texts
    found += [Trial("prompt", wording) for wording in chosen]
    found.append(Trial("unprompted", ""))
    if mask:
        found += [Trial("random", f"seed {seed}", random_like(mask, seed), name) for seed in range(1, seeds + 1)]
        found += [Trial("other", called, other, name) for called, other in (others or {}).items()]
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
    unconstrained: bool = True,
) -> list[Prediction]:
    """The model's answers in one trial.

    Args:
        model: the model.
        features: of the clips.
        clips: with labels for the task.
        task: what the answers are measured as.
        trial: what makes the model do it.
        batch: clips at once.
        max_new_tokens: where an answer is truncated; no reference has a part in that.
        unconstrained: whether clips are answered once more held to nothing, where the task has a constraint.

    Raises:
        MaskError: the trial's mask is not for this model.
    """
    if trial.mask is not None:
        trial.mask.require(model)
    gates = None if trial.mask is None else trial.mask.gates
    prompt = trial.wording if trial.condition == "prompt" else None

    def answer(held_to: TaskSpec | None) -> list[Answer]:
        found: list[Answer] = []
        for some in in_batches(features, batch):
            rows = [TaskRow(at, gates, prompt, held_to) for at in range(len(some))]
            found += answer_task_rows(model, some, rows, max_new_tokens=max_new_tokens, batch=batch)
        return found

    served = answer(task)
    free = answer(None) if unconstrained and task_constraint(task) is not None else None
    return [
        Prediction(
            path=clip.path,
            task=task.name,
            condition=trial.condition,
            mask=trial.name,
            wording=trial.wording,
            answer=served[at].text,
            unconstrained=None if free is None else free[at].text,
            reference=task.target(clip.labels),
            speaker=clip.speaker,
            truncated=(served if free is None else free)[at].truncated,
            likelihoods=_likelihoods(task, served[at]),
        )
        for at, clip in enumerate(clips)
    ]


def _likelihoods(task: TaskSpec, answer: Answer) -> dict[str, float] | None:
    """Of two labels how likely each is: the answer is the likelier, and its confidence is normalised over both."""
    labels = task.labels
    if len(labels) != 2 or answer.confidence is None or answer.text not in labels:
        return None
    return {label: answer.confidence if label == answer.text else 1 - answer.confidence for label in labels}
