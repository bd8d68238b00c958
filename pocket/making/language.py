"""Fine-tuning: the language model learns to follow instructions, and what is possible without one (`lessons`).

Behind a clip's audio stand several answers at once; each sees the audio, null, anchor and itself, so the audio is read once for
all of them (`text_states`: only text runs through the layers). Whisper's own weights move slowly and what is fresh
beside them faster, or transcription is lost in a few steps; markers, positions, embeddings and the projector stay as constructed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen2AudioForConditionalGeneration

from ...data.manifest import Clip
from ...lalm.fixed_audio import text_states
from .encoder import AudioFront
from .lessons import Lesson, Lessons
from .loop import Log, train
from .store import FrameStore, batches_by_length, training_clips

FIRST = 0.7  # weight of the first tokens, which decide the task, against 1 of the others
NOISE = 0.05  # deviation of the noise on the encoder's states, relative to theirs


@dataclass(frozen=True)
class Layout:
    """A batch of lessons as text behind audio.

    Attributes:
        ids: null, anchor, then one answer after the other, each with its prompt; the end token fills up.
        sees: which text positions each one attends to.
        rows, places: where the states stand that predict the answers' tokens, one answer after the other.
    """

    ids: Int[Tensor, "row text"]
    sees: Bool[Tensor, "row text text"]
    rows: list[int]
    places: list[int]


def lay_out(lessons: Sequence[Lesson], null: int, fill: int) -> Layout:
    """Lay out lessons: all answers behind a clip see null, the anchor and themselves.

    Args:
        lessons: what is taught; every prompt begins with the anchor.
        null: the token before the audio.
        fill: the token that fills up.
    """
    longest = 2 + max(sum(len(each.given) - 1 for each in lesson.answers) for lesson in lessons)
    ids = torch.full((len(lessons), longest), fill)
    sees = torch.eye(longest, dtype=torch.bool).repeat(len(lessons), 1, 1)
    sees[:, :, 0] = True
    sees[:, 1:, 1] = True
    rows: list[int] = []
    places: list[int] = []
    for row, lesson in enumerate(lessons):
        ids[row, :2] = torch.tensor([null, lesson.answers[0].given[0]])
        start = 2
        for each in lesson.answers:
            given = each.given[1:]
            end = start + len(given)
            ids[row, start:end] = torch.tensor(given)
            sees[row, start:end, start:end] = torch.ones(len(given), len(given)).tril().bool()
            rows += [row] * len(each.answer)
            places += range(end - len(each.answer), end)
            start = end
    return Layout(ids, sees, rows, places)


def answer_loss(
    model: Qwen2AudioForConditionalGeneration, audio: Tensor, lengths: Tensor, laid: Layout, lessons: Sequence[Lesson]
) -> dict[str, Tensor]:
    """Cross-entropy on the answers by how likely each token is: the first, which decides the task, apart from the others.

    Args:
        model: the pocket model.
        audio: (row, position, hidden) embeddings of each clip's audio.
        lengths: how many of the positions are real.
        laid: the lessons, laid out.
        lessons: what is taught of each.
    """
    heard = torch.arange(audio.shape[1])[None] < lengths[:, None]
    text = model.get_input_embeddings()(laid.ids)
    states = text_states(model.model.language_model, audio, heard, text, laid.sees)
    logits = model.lm_head(states[laid.rows, laid.places])
    answers = [each for lesson in lessons for each in lesson.answers]
    places = [place for each in answers for place in each.shares]
    wanted = torch.zeros_like(logits)
    where = torch.tensor([(at, token) for at, place in enumerate(places) for token in place]).T
    wanted[where[0], where[1]] = torch.tensor([share for place in places for share in place.values()])
    losses = nn.functional.cross_entropy(logits, wanted, reduction="none")
    decides = torch.tensor([at == 0 for each in answers for at in range(len(each.answer))])
    return {"first": FIRST * losses[decides].mean(), "rest": losses[~decides].mean()}


def train_language(
    model: Qwen2AudioForConditionalGeneration,
    rates: Mapping[str, Tensor],
    tokenizer: PreTrainedTokenizerFast,
    store: FrameStore,
    clips: Sequence[Clip],
    settings: dict,
    seed: int,
    checkpoint: Path,
    log: Log,
) -> None:
    """Train the language model and the encoder's last layer on the training clips' states.

    Args:
        model: as constructed; its encoder's earlier layers are not used.
        rates: of the language model's parameters, how fast each number moves; see `rates.learning_rates`.
        tokenizer: its own.
        store: states before the encoder's last layer, of all clips.
        clips: all clips, in the store's order.
        settings: "steps", "warmup", "peak" (of Whisper's own weights), "positions" and "rows" of a batch, "repeat" (kind →
            times), and how many answers with and without instruction ("prompted", "unprompted") a clip has.
        seed: of what is drawn.
        checkpoint: a file.
        log: told how it goes.
    """
    lessons = Lessons(tokenizer, clips, settings["prompted"], settings["unprompted"])
    lengths = [float(store.length(at)) for at in range(len(clips))]
    chosen = training_clips(clips, settings["repeat"])
    batches = batches_by_length(lengths, chosen, float(settings["positions"]), settings["rows"], seed)
    drawn: Iterator[tuple[int, list[int]]] = enumerate(batches)
    front = AudioFront(model.model.audio_tower, model.model.multi_modal_projector)
    modules = nn.ModuleDict({"front": front, "language": model.model.language_model})
    model.requires_grad_(False)
    front.layer.requires_grad_(True)
    moving: dict[Tensor, Tensor] = {}
    for name, parameter in model.model.language_model.named_parameters():
        if bool(rates[name].any()):
            parameter.requires_grad_(True)
            moving[parameter] = rates[name]
    null, fill = cast(int, tokenizer.convert_tokens_to_ids("<|audio_bos|>")), tokenizer.eos_token_id

    def losses(step: int) -> dict[str, Tensor]:
        batch = next(batch for at, batch in drawn if at == step)
        rng = np.random.default_rng([seed, step])
        taught = [lessons.lesson(at, rng) for at in batch]
        states, real = store.batch(batch)
        states = states + NOISE * states.std() * torch.from_numpy(rng.normal(size=states.shape).astype(np.float32))
        audio, audio_lengths = front(states, real)
        return answer_loss(model, audio, audio_lengths, lay_out(taught, null, fill), taught)

    schedule = {"steps": settings["steps"], "warmup": settings["warmup"], "peak": dict.fromkeys(modules, settings["peak"])}
    train(modules, losses, **schedule, checkpoint=checkpoint, log=log, rates=moving)
    model.requires_grad_(False)
