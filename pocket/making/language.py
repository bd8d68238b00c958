"""Second training: the language model learns to follow instructions over the frozen encoder's features (`lessons`).

All of a batch is one sequence: first the words that stand before every audio, then clip after clip, and behind each its
answers. An answer sees the first words, its clip and itself, at the positions that it would have alone. So words and
audio are computed once for several answers, and nothing is padded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen2AudioForConditionalGeneration

from ...data.manifest import Clip
from .attention import use_attention
from .lessons import Lesson, Lessons
from .loop import Log, train
from .store import FrameStore, training_clips

FIRST = 0.3  # weight of the first tokens, which decide the task, against 1 of the others
NOISE = 0.1  # deviation of the noise on the features


@dataclass(frozen=True)
class Layout:
    """Where the tokens of some lessons stand in one sequence.

    Attributes:
        positions: of each token, as its answer alone would have it.
        ranges: what each token sees; see `attention.attend`.
        predicts: the places whose states predict the answers' tokens, one answer after the other.
    """

    positions: list[int]
    ranges: list[tuple[int, int, int, int]]
    predicts: list[int]


def lay_out(lessons: Sequence[Lesson], heard: Sequence[int], opening: int) -> Layout:
    """Lay out lessons behind the first `opening` tokens, which those see that have no other words before their audio.

    Args:
        lessons: what is taught.
        heard: positions of each clip's audio.
        opening: tokens of the words that usually stand before the audio.
    """
    found = Layout(list(range(opening)), [(0, 0, 0, 0)] * opening, [])
    for lesson, length in zip(lessons, heard, strict=True):
        common = 0 if lesson.before else opening
        start, clip = len(found.positions), len(lesson.before) + length
        found.positions.extend(range(common, common + clip))
        found.ranges.extend([(common, 0, 0, start)] * clip)
        for each in lesson.answers:
            own, count = len(found.positions), len(each.given)
            found.positions.extend(range(common + clip, common + clip + count))
            found.ranges.extend([(common, start, start + clip, own)] * count)
            found.predicts.extend(range(own + len(each.after) - 1, own + count))
    return found


def answer_loss(
    model: Qwen2AudioForConditionalGeneration, opening: Sequence[int], audio: Sequence[Tensor], lessons: Sequence[Lesson]
) -> dict[str, Tensor]:
    """Cross-entropy on the answers by how likely each token is: the first, which decides the task, apart from the others.

    Args:
        model: its language model uses `attention.attend`.
        opening: token ids of the words that usually stand before the audio.
        audio: (position, width) of each clip.
        lessons: what is taught of each.
    """
    embed = model.get_input_embeddings()
    laid = lay_out(lessons, [len(heard) for heard in audio], len(opening))
    parts = [embed(torch.tensor(opening))]
    for lesson, heard in zip(lessons, audio, strict=True):
        behind = [token for each in lesson.answers for token in each.given]
        parts += [embed(torch.tensor(lesson.before, dtype=torch.long)), heard, embed(torch.tensor(behind))]
    states = model.model.language_model(
        inputs_embeds=torch.cat(parts)[None],
        attention_mask={"full_attention": torch.tensor([laid.ranges], dtype=torch.int32)},
        position_ids=torch.tensor([laid.positions]),
        use_cache=False,
    ).last_hidden_state[0]
    logits = model.lm_head(states[torch.tensor(laid.predicts)])
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
    tokenizer: PreTrainedTokenizerFast,
    store: FrameStore,
    clips: Sequence[Clip],
    settings: dict,
    seed: int,
    checkpoint: Path,
    log: Log,
) -> None:
    """Train projector and language model on the training clips' features.

    Args:
        model: its encoder is not used.
        tokenizer: its own.
        store: the features of all clips.
        clips: all clips, in the store's order.
        settings: "steps", "tokens" of a batch, "peak", "warmup", "repeat" (kind → times), "short_first" (see `Lessons.batches`),
            and how many answers with and without instruction ("told", "untold") and offers a clip has.
        seed: of what is drawn.
        checkpoint: a file.
        log: told how it goes.
    """
    lengths = [store.length(at) for at in range(len(clips))]
    use_attention(model.model.language_model)
    modules = nn.ModuleDict(
        {"projector": model.model.multi_modal_projector, "language": model.model.language_model, "head": model.lm_head}
    )
    lessons = Lessons(tokenizer, clips, settings["told"], settings["untold"], settings["offers"])
    chosen = training_clips(clips, settings["repeat"])
    batches = lessons.batches(chosen, lengths, settings["tokens"], seed, settings["short_first"])
    drawn: Iterator[tuple[int, list[Lesson]]] = enumerate(batches)

    def losses(step: int) -> dict[str, Tensor]:
        batch = next(lessons for at, lessons in drawn if at == step)
        rng = np.random.default_rng([seed, step])
        frames, heard = store.batch([lesson.clip for lesson in batch])
        frames = frames + NOISE * torch.from_numpy(rng.normal(size=frames.shape).astype(np.float32))
        projected = model.model.multi_modal_projector(frames)
        audio = [row[:length] for row, length in zip(projected, heard.tolist(), strict=True)]
        return answer_loss(model, lessons.opening, audio, batch)

    kept = {"steps": settings["steps"], "warmup": settings["warmup"], "checkpoint": checkpoint, "log": log}
    train(modules, losses, peak=dict.fromkeys(modules, settings["peak"]), **kept)
    model.model.language_model.config._attn_implementation = "sdpa"
