"""`LALM`: the one face that every model family shows."""

from collections.abc import Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import GenerationConfig

from ..data.audio import read_audio, to_mono_rate
from ..data.tasks import TaskSpec
from ..errors import AudioError, InstructionError, MaskError, ModelError
from .answering import MAX_NEW_TOKENS, Answer, answers, texts
from .batching import AudioFeatures, pad_rows
from .call_context import Arguments, Change, changed_inputs
from .constrained_decoding import Constraints, ProbabilityRecorder, constrained_to, logits_processors, task_constraint
from .feature_cache import FeatureCache
from .gating import GatesLike, as_gates, gated
from .identity import Identity
from .likelihood import label_probabilities, likeliest
from .prompting import Gates
from .pruning import prune, prune_obstacle
from .scoring import Prompts, ScoringModel
from .text_follower import Listeners, TextFollower

Clip = Path | str | tuple[np.ndarray, int]
"""An audio file, or samples with their rate in Hz; see `data.audio.to_mono_rate` for what samples may be."""


@runtime_checkable
class Mask(Protocol):
    """What `LALM.run` wants of a mask, such as a `HeadMask`."""

    @property
    def task(self) -> TaskSpec | None:
        """What the mask triggers; answers are held to its constraint."""

    @property
    def identity(self) -> Identity:
        """The model that the mask belongs to."""

    @property
    def gates(self) -> Float[Tensor, "layer head"]:
        """1.0 where a head is on, 0.0 where it is off."""


class LALM(ScoringModel):
    """A frozen large audio language model whose heads can be gated.

    A family says how audio becomes embeddings (`_encode`) and what text stands around them (`template`); the rest is
    shared. The text around the audio is the same in training and in use, with and without a prompt. Several threads
    may use one model.

    Attributes:
        name: how users call the model.
        model: the transformers model that holds the language model and its head; frozen, in eval mode.
        tokenizer: its tokenizer.
        template: the exact text around the audio.
        sites: where the heads are.
        geometry: how many heads each masked layer has.
        rate: sampling rate of the audio, Hz.
        longest: seconds of audio that the model takes at once; None where it takes clips of any length.
        channels: which channels of a file the model hears, see `data.audio.read_audio`.
    """

    def run(
        self,
        clips: Clip | list[Clip],
        mask: Mask | GatesLike | str = None,
        prompt: str | None = None,
        *,
        batch: int = 16,
        max_new_tokens: int = MAX_NEW_TOKENS,
        beams: int = 1,
        unconstrained: bool = False,
    ) -> str | list[str]:
        """Answer for clips, by a mask, by a prompt in words, or by neither.

        Args:
            clips: a file, an array with its rate as `(array, rate)`, or a list of such.
            mask: of this model; or gates, for all clips or for each.
            prompt: what to do, for models that are to be prompted.
            batch: clips at once.
            max_new_tokens: where an answer is truncated; `answers` says whether one was.
            beams: 1 for greedy search.
            unconstrained: do not hold answers to the labels or the form of the mask's task.

        Returns:
            The answer; for a list of clips a list of answers.

        Raises:
            AudioError: a clip cannot be read, or does not fit the model.
            InstructionError: there is a mask beside the prompt, or the prompt is empty.
            MaskError: the mask belongs to another model.
            ModelError: a count is below 1, or gates are not between 0 and 1 or do not fit the model or the clips.

        Example:
            >>> model = amask.load_model("pocket")
            >>> mask = amask.MaskBank.default().get("gr", model)
            >>> model.run(["docs/clips/woman.opus", "docs/clips/man.opus"], mask)
            ['female', 'male']
        """
        if not isinstance(clips, list):
            return self.run(
                [clips], mask, prompt, batch=1, max_new_tokens=max_new_tokens, beams=beams, unconstrained=unconstrained
            )[0]
        _check_counts(batch=batch, max_new_tokens=max_new_tokens, beams=beams)
        if prompt is not None and (mask is not None or not prompt.strip()):
            raise InstructionError("a prompt is words to a model without a mask; give one of the two")
        if isinstance(mask, str):
            raise MaskError(f"{mask!r} is a name, which only a bank knows: give MaskBank.default().get({mask!r}, model)")
        task = mask.task if isinstance(mask, Mask) and not unconstrained else None
        gates = self.gates_of(mask) if isinstance(mask, Mask) else as_gates(mask)
        cache = FeatureCache(self)
        batches = (cache.encode_all([self._read(clip) for clip in some]) for some in _batches(clips, batch))
        constraint = task_constraint(task) if task else None
        found = answers(self, batches, gates, prompt, max_new_tokens=max_new_tokens, beams=beams, constraint=constraint)
        return texts(found)

    def gates_of(self, mask: Mask) -> Float[Tensor, "layer head"]:
        """A mask's gates.

        Raises:
            MaskError: the mask belongs to another model.
        """
        if not mask.identity.same(self.identity):
            raise MaskError(f"the mask is for {mask.identity}; this model is {self.identity}; give a mask of this model")
        return mask.gates

    def _read(self, clip: object) -> np.ndarray:
        if isinstance(clip, Path | str):
            return read_audio(Path(clip), self.rate, longest=self.longest, channels=self.channels)
        if isinstance(clip, tuple) and len(clip) == 2:
            return to_mono_rate(*clip, self.rate)
        raise AudioError(f"cannot read a {type(clip).__name__}; expected a file, or samples with their rate as (array, rate)")

    @torch.no_grad()
    def answer(
        self,
        features: AudioFeatures,
        gates: GatesLike = None,
        prompts: Prompts = None,
        *,
        max_new_tokens: int = MAX_NEW_TOKENS,
        beams: int = 1,
        constraints: Constraints = None,
        confidence: bool = False,
        listeners: Listeners = None,
    ) -> list[Answer]:
        """Answer by gates or by prompts (or neither): from a closed set by likelihood, else by greedy or beam search.

        A row whose constraint is a closed set of answers, as of tasks with labels, gets the likeliest of them, with its
        probability (`likelihood`); all other rows generate.

        Args:
            features: encoded audio.
            gates: head gates between 0 and 1, for all rows or for each.
            prompts: for all rows or for each.
            max_new_tokens: where an answer is truncated; one with a constraint then comes to the constraint's end.
            beams: 1 for greedy search.
            constraints: what each row's answer is held to, see `constrained_decoding.task_constraint`; None for nothing.
            confidence: whether rows that generate greedily get a confidence, too.
            listeners: who is told each row's text while it is decoded greedily, see `text_follower`; None for nobody.

        Returns:
            One answer a row.

        Raises:
            ModelError: a count is below 1, gates are not between 0 and 1, or they or prompts do not fit model or rows.
        """
        _check_counts(max_new_tokens=max_new_tokens, beams=beams)
        fitting = self.checked_gates(features, gates)
        self._check_range(fitting)
        words = self.prompts_by_row(features, prompts)
        if constraints is not None and len(constraints) != len(features):
            raise ModelError(f"got {len(constraints)} constraints for {len(features)} rows; give one a row, or None")
        groups: dict[tuple[str, ...], list[int]] = {}  # closed set of answers, empty for none → rows
        for at in range(len(features)):
            constraint = constraints[at] if constraints else None
            groups.setdefault(constraint.answers if constraint else (), []).append(at)
        found: dict[int, Answer] = {}
        for closed, rows in groups.items():
            some = features if len(rows) == len(features) else features.rows(rows)
            own = fitting[rows] if fitting is not None and fitting.dim() == 3 else fitting
            asked = [words[at] for at in rows]
            if closed:
                probabilities = label_probabilities(self, some, closed, own, asked)
                answers = [
                    Answer(text, confidence=probability, probabilities=dict(zip(closed, row, strict=True)))
                    for (text, probability), row in zip(likeliest(closed, probabilities), probabilities.tolist(), strict=True)
                ]
            else:
                held = [constraints[at] for at in rows] if constraints else None
                told = [listeners[at] for at in rows] if listeners and beams == 1 else ()
                follower = TextFollower(self._texts, told) if any(told) else None
                answers = self._generate_answers(some, own, asked, held, max_new_tokens, beams, confidence, follower)
            found |= zip(rows, answers, strict=True)
        return [found[at] for at in range(len(features))]

    def _generate_answers(
        self,
        features: AudioFeatures,
        gates: Gates,
        prompts: list[str],
        constraints: Constraints,
        max_new_tokens: int,
        beams: int,
        confidence: bool,
        follower: TextFollower | None,
    ) -> list[Answer]:
        extra = max((constraint.extra_tokens for constraint in constraints or () if constraint), default=0)
        recorder = ProbabilityRecorder() if confidence and beams == 1 else None
        with self.exclusive, gated(self.sites, gates), constrained_to(constraints, max_new_tokens, recorder, follower):
            ids = self._continue(features, prompts, self._settings(max_new_tokens + extra, beams))
        found = self._texts(ids)
        means = recorder.means(ids, self.end_tokens) if recorder else [None] * len(ids)
        truncated = self._truncated(ids, max_new_tokens)
        return [Answer(text.strip(), cut, mean) for text, cut, mean in zip(found, truncated, means, strict=True)]

    def _texts(self, ids: Int[Tensor, "row token"]) -> list[str]:
        with self._tokenizing:
            return self.tokenizer.batch_decode(ids, skip_special_tokens=True)

    def _check_range(self, gates: Gates) -> None:
        """Refuse gates that no mask has, hard or soft; those of heads that a layer does not have mean nothing."""
        if gates is not None:
            real = gates[..., self.geometry.present.to(gates.device)]
            if not bool(((real >= 0) & (real <= 1)).all()):
                raise ModelError("gates must be between 0 (a head is off) and 1 (on); give a mask's gates, or clamp them")

    @property
    def prune_obstacle(self) -> str:
        """Why heads cannot be cut out of this model (`pruned`); empty where they can."""
        return prune_obstacle(self)

    def pruned(self, mask: GatesLike) -> "LALM":
        """This model without the heads that a mask switches off: the same answers with less work; see `pruning.prune`.

        All weights but those of the cut attentions are shared. The pruned model has the same name and identity, and runs
        this mask and no other.

        Args:
            mask: of this model; or gates of exactly 0 and 1.

        Raises:
            MaskError: the mask belongs to another model.
            ModelError: the gates are not bits or do not fit the model, or `prune_obstacle` says why it cannot be pruned.

        Example:
            >>> model = amask.load_model("pocket")
            >>> mask = amask.MaskBank.default().get("gr", model)
            >>> model.pruned(mask).run("docs/clips/woman.opus", mask)
            'female'
        """
        return prune(self, mask)

    def _truncated(self, ids: Int[Tensor, "row token"], max_new_tokens: int) -> list[bool]:
        """Whether each row's answer was truncated: it has as many tokens as allowed, and none of these ends it."""
        ended = torch.isin(ids[:, :max_new_tokens], torch.tensor(self.end_tokens, device=ids.device)).any(1)
        return [ids.shape[1] >= max_new_tokens and not end for end in ended.tolist()]

    def _continue(self, features: AudioFeatures, prompts: Sequence[str], settings: GenerationConfig) -> Int[Tensor, "row token"]:
        """The tokens that the model generates."""
        embeds, mask = pad_rows(self._prompt_embeds(features, prompts), "left")
        return self._search(settings, inputs_embeds=embeds, attention_mask=mask)

    def _settings(self, max_new_tokens: int, beams: int = 1) -> GenerationConfig:
        return GenerationConfig(
            max_new_tokens=max_new_tokens,
            num_beams=beams,
            do_sample=False,
            bos_token_id=self.model.generation_config.bos_token_id,
            eos_token_id=self.end_tokens,
            pad_token_id=self.pad_token,
        )

    def _search(self, settings: GenerationConfig, **inputs: Any) -> Int[Tensor, "row token"]:  # noqa: ANN401
        """Greedy or beam search by transformers, with these settings and none from the model's files.

        Transformers fills what is not set from the model's own `generation_config` and keeps caches on the model. It gets
        a shallow copy, whose `generation_config` these settings are, so that nothing leaks in or stays behind.
        """
        model: Any = copy(self.model)
        model.generation_config = settings
        prompt = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0  # embeddings of a prompt are not handed on
        processors = logits_processors(self.tokenizer, prompt, self.end_tokens)
        with changed_inputs(self._last_position_only()):
            return self._generate(model, generation_config=settings, logits_processor=processors, **inputs)

    def _last_position_only(self) -> dict[nn.Module, Change]:
        """Of a prompt's positions only the last one's logits are wanted; several families' code computes all of them."""
        head = self.model.get_output_embeddings()

        def last(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
            return (args[0][:, -1:], *args[1:]), kwargs

        return {} if head is None else {head: last}

    def _generate(self, model: Any, **inputs: Any) -> Int[Tensor, "row token"]:  # noqa: ANN401
        return model.generate(**inputs)

    def count_tokens(self, text: str) -> int:
        """How many tokens a text is."""
        return len(self._ids(text))

    def max_tokens_for(self, answers: Sequence[str]) -> int:
        """Tokens that are enough for answers like these: twice the longest, and eight more."""
        return 8 + 2 * max(map(self.count_tokens, answers))


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ModelError(f"{name} is {count!r}; give a whole number, 1 or more")


def _batches(clips: list[Clip], size: int) -> Iterator[list[Clip]]:
    for start in range(0, len(clips), size):
        yield clips[start : start + size]
