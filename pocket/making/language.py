"""Second stage: the language model learns to follow instructions over the frozen encoder's features (`lessons`)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen2AudioForConditionalGeneration

from ...data.manifest import Clip
from ...lalm.assembly import pad_rows
from .lessons import Lessons, Row
from .loop import train
from .stages import Log
from .store import FrameStore, training_clips


def answer_loss(model: Qwen2AudioForConditionalGeneration, audio: list[Tensor], rows: list[Row]) -> dict[str, Tensor]:
    """Cross-entropy on the answers by how likely each token is: the first, which decides the task, apart from the others."""
    embed = model.get_input_embeddings()
    inputs = [
        torch.cat([embed(torch.tensor(row.before)), heard, embed(torch.tensor(row.after + row.answer[:-1]))])
        for heard, row in zip(audio, rows, strict=True)
    ]
    answers = [row.answer for row in rows]
    embeds, _ = pad_rows(inputs, "right")  # causal attention never sees padding on the right
    hidden = model.model.language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
    picked = torch.cat([hidden[row, len(x) - len(a) : len(x)] for row, (x, a) in enumerate(zip(inputs, answers, strict=True))])
    places = [shares for row in rows for shares in row.shares]
    logits = model.lm_head(picked)
    wanted = torch.zeros_like(logits)
    for place, shares in zip(wanted, places, strict=True):
        place[list(shares)] = torch.tensor(list(shares.values()))
    losses = nn.functional.cross_entropy(logits, wanted, reduction="none")
    lengths = torch.tensor([len(answer) for answer in answers])
    first = torch.zeros(len(places), dtype=torch.bool)
    first[torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)[:-1]])] = True
    return {"first": 0.3 * losses[first].mean(), "rest": losses[~first].mean()}


def train_language(
    model: Qwen2AudioForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    store: FrameStore,
    clips: list[Clip],
    settings: dict,
    seed: int,
    folder: Path,
    log: Log,
) -> None:
    """Train projector and language model on the training clips' features, in rounds; checkpoints lie in `folder`."""
    lengths = [store.length(i) for i in range(len(clips))]
    modules = nn.ModuleDict(
        {"projector": model.model.multi_modal_projector, "language": model.model.language_model, "head": model.lm_head}
    )
    for number, phase in enumerate(settings["rounds"], 1):
        lessons = Lessons(tokenizer, clips, phase["no_instruction"], phase.get("offers", 0.0))
        chosen = training_clips(clips, phase.get("repeat", {}))
        batches = enumerate(lessons.batches(chosen, lengths, settings["batch"], seed + number))

        def losses(step: int, batches: Iterator = batches, number: int = number) -> dict[str, Tensor]:
            rows = next(rows for at, rows in batches if at == step)
            rng = np.random.default_rng([seed, number, step])
            features, heard = store.batch([row.clip for row in rows])
            features = features + 0.1 * torch.from_numpy(rng.normal(size=features.shape).astype(np.float32))
            projected = model.model.multi_modal_projector(features)
            audio = [row[:length] for row, length in zip(projected, heard.tolist(), strict=True)]
            return answer_loss(model, audio, rows)

        kept = {key: phase[key] for key in ("steps", "peak", "warmup")}
        train(modules, losses, checkpoint=folder / f"language{number}.pt", log=log, **kept)
