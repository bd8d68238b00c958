"""The last stage: the bundled masks, trained on the features that the language model learned from."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from transformers import AutoProcessor

from ...data.manifest import Clip
from ...data.tasks import TaskSpec, collect_tasks, parse_task
from ...lalm.answering import texts
from ...lalm.batching import AudioFeatures, pad_rows
from ...lalm.qwen2_audio import Qwen2Audio, TiedQwen2Audio, from_files
from ...lalm.registry import POCKET
from ...mask_bank.dev_scoring import headline
from ...mask_bank.files import save_mask
from ...mask_bank.labelled_clips import LabelledClips
from ...mask_bank.recipe import Recipe
from ...mask_bank.training import MaskTrainer, TrainingJob
from .. import SLICE
from ..instructions import wordings
from .encoder import AudioFront
from .loop import Log
from .stages import hash_json
from .store import FrameStore


def take(
    clips: Sequence[Clip], split: str, kind: str, count: int, label: str = "", words: tuple[int, int] = (0, 100)
) -> Iterator[int]:
    """The numbers of the first clips of a split and a kind that have a label, and in which so many words are said."""
    fewest, most = words
    fitting = (
        at
        for at, clip in enumerate(clips)
        if clip.split == split
        and clip.kind == kind
        and (not label or label in clip.labels)
        and fewest <= len(clip.labels.get("asr", "").split()) <= most
    )
    return islice(fitting, count)


def load_made(weights: Path) -> Qwen2Audio:
    """The pocket model as it was just made, under the name that it will ship with."""
    model = TiedQwen2Audio.from_pretrained(weights, dtype=torch.float32).eval()
    return from_files(POCKET, model, AutoProcessor.from_pretrained(weights), str(weights))


@torch.no_grad()
def examples(model: Qwen2Audio, store: FrameStore, clips: Sequence[Clip], chosen: Sequence[int]) -> LabelledClips:
    """Some clips as the language model hears them, made of their stored states."""
    front = AudioFront(model.model.model.audio_tower, model.model.model.multi_modal_projector)
    order = sorted(chosen, key=store.length)
    made: dict[int, torch.Tensor] = {}
    for start in range(0, len(order), 32):
        some = order[start : start + 32]
        audio, lengths = front(*store.batch(some))
        made |= {at: row[:length].clone() for at, row, length in zip(some, audio, lengths.tolist(), strict=True)}
    rows = [made[at] for at in chosen]
    embeds, mask = pad_rows(rows, "right")
    digests = tuple(hashlib.sha256(row.numpy().tobytes()).hexdigest() for row in rows)
    return LabelledClips(AudioFeatures(embeds, mask.sum(1)), tuple(clips[at].labels for at in chosen), digests)


def prompted(model: Qwen2Audio, spec: TaskSpec, dev: LabelledClips, count: int) -> float:
    """The figure of merit of the first wording that the model was trained with, on the clips that masks are tried on."""
    chosen = dev.clips_for(spec)[:count]
    references = [spec.target(dev.labels[at]) for at in chosen]
    answers: list[str] = []
    for start in range(0, len(chosen), 50):
        features = dev.features.rows(chosen[start : start + 50])
        prompts = [wordings(spec)[0]] * len(features)
        answers += texts(model.answer(features, None, prompts, max_new_tokens=model.max_tokens_for(references)))
    return headline(spec, answers, references)


def train_masks(weights: Path, store: FrameStore, clips: Sequence[Clip], plan: dict, folder: Path, log: Log) -> None:
    """Train what is planned, one training after the other; each mask becomes `TASK.safetensors`.

    Args:
        weights: the model's folder.
        store: features of all clips.
        clips: all clips, in the store's order.
        plan: training → tasks, clips, recipe, and where it stops if before the recipe's end, as in `masks.toml`.
        folder: where to; a training whose masks lie there, by the same plan and for the same model, is not repeated.
        log: told how it goes.
    """
    model = load_made(weights)
    tasks = collect_tasks(SLICE)  # as the model was taught them
    planned = {task for training in plan.values() for task in training["tasks"]}
    for file in folder.glob("*.safetensors"):
        if file.stem not in planned:
            file.rename(file.with_suffix(".before"))
    for name, training in plan.items():
        specs = [parse_task(task, tasks) for task in training["tasks"]]
        files, stamp = [folder / f"{spec.name}.safetensors" for spec in specs], folder / f"{name}.stamp"
        key = hash_json([training, model.identity.fingerprint])
        if all(file.exists() for file in files) and stamp.exists() and stamp.read_text(encoding="utf-8") == key:
            continue
        train, dev = (
            examples(model, store, clips, [at for some in training[split] for at in take(clips, split, **some)])
            for split in ("train", "dev")
        )
        recipe = Recipe.model_validate(training["recipe"])
        for spec in specs:
            log(f"masks: {spec.name} prompted, dev {prompted(model, spec, dev, recipe.dev_clips):.1f}")
        trainer = MaskTrainer(model, [TrainingJob(spec, 1) for spec in specs], train, dev, recipe, checkpoints=folder)
        for now in trainer.run(stop=training.get("stop")):
            if now.step % 20 == 0 or now.step == recipe.steps:
                told = {"loss": now.losses, "on": now.heads_on, "dev": now.dev_scores, "left": round(now.seconds_left)}
                log(f"masks: {name} {now.step}/{now.steps} {json.dumps(told)}")
        for spec, mask, file in zip(specs, trainer.masks, files, strict=True):
            save_mask(mask, spec.name, 1, file)
        stamp.write_text(key, encoding="utf-8")
        if trainer.checkpoint:
            trainer.checkpoint.remove()
