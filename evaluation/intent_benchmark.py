"""How well instructions are understood: wordings, templates, phrases and orders that nothing was trained on."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..data.tasks import Task
from ..mask_bank.mask import HeadMask
from ..predictor.augmentation import add_typo
from ..predictor.calibration import conformal_threshold
from ..predictor.encoder import Encoder
from ..predictor.example import Example
from ..predictor.intent import UNSUPPORTED, Intent
from ..predictor.predictor import Predictor
from ..predictor.synthesis import RequestSource, dev_examples, is_held_out

COMPOSED = {"pipe2": 120, "json2": 120, "pipe3": 80, "json3": 80}
EXCLUDING = 100
SLIPS = 3

ScoredIntent = tuple[Intent, float]
"""The likeliest intent that tasks serve, and a score that is higher the surer it is that they do."""


@dataclass(frozen=True)
class TestSet:
    """Requests that nothing was trained on.

    Attributes:
        single: for one task, whole requests as written.
        excluding: for one task and not another, of held out templates and phrases.
        requests: for several tasks, whole requests as written.
        composed: for several tasks in orders never trained, of held out templates and phrases.
        far, near: what no task serves.
        misspelt: `single` with three slips each.
    """

    single: tuple[Example, ...]
    excluding: tuple[Example, ...]
    requests: tuple[Example, ...]
    composed: tuple[Example, ...]
    far: tuple[Example, ...]
    near: tuple[Example, ...]
    misspelt: tuple[Example, ...]

    @property
    def p_supported(self) -> tuple[Example, ...]:
        """Those that tasks serve."""
        return self.single + self.excluding + self.requests + self.composed


def held_out(tasks: Sequence[Task], seen: frozenset[tuple[str, ...]], seed: int = 0) -> TestSet:
    """The test requests, the same for the same tasks."""
    source = RequestSource(tuple(tasks), "test")
    rng = np.random.default_rng(seed)
    orders = {n: [parts for parts in source.orders[n] if is_held_out(parts) and parts not in seen] for n in (2, 3)}
    composed = []
    for kind, count in COMPOSED.items():
        for _ in range(count):
            parts = orders[int(kind[-1])][int(rng.integers(len(orders[int(kind[-1])])))]
            composed.append(source.composed(kind, parts, rng))
    single = tuple(Example(text, Intent((task,))) for task, texts in source.singles.items() for text in texts)
    return TestSet(
        single=single,
        excluding=tuple(source.draw_kind("single_with_exclusion", rng) for _ in range(EXCLUDING)),
        requests=tuple(Example(r.text, Intent(r.parts, r.form)) for r in source.requests),
        composed=tuple(composed),
        far=tuple(Example(text, UNSUPPORTED) for text in source.unsupported["far"]),
        near=tuple(Example(text, UNSUPPORTED) for text in source.unsupported["near"]),
        misspelt=tuple(
            replace(each, marked_text=_misspell(each.text, np.random.default_rng([seed, 2, at])))
            for at, each in enumerate(single)
        ),
    )


def _misspell(text: str, rng: np.random.Generator) -> str:
    for _ in range(SLIPS):
        text = add_typo(text, rng)
    return text


@dataclass(frozen=True)
class Row:
    """One line of the table, in percent.

    Attributes:
        system: what was measured.
        single, excluding, requests, composed: right and not refused, of the sets of those names.
        pairs: right and not refused, of the composed ones with two parts.
        refused_in_vain: of what tasks serve.
        auroc: how well the score tells what is served from what is not.
        far, near: refused, of what no task serves.
        misspelt: right and not refused, of `single` with three slips each.
        by_task: `single` for each task.
    """

    system: str
    single: float
    excluding: float
    requests: float
    composed: float
    pairs: float
    false_refusals: float
    auroc: float
    far: float
    near: float
    misspelt: float
    by_task: dict[str, float]


def measure(system: str, guess: Callable[[Sequence[str]], list[ScoredIntent]], threshold: float, tests: TestSet) -> Row:
    """Measure a system.

    Args:
        system: its name.
        guess: what it makes of instructions.
        threshold: the score below which it refuses.
        tests: the requests.
    """
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415  (takes a second to import)

    def results(examples: Sequence[Example]) -> list[tuple[Example, Intent, float]]:
        found = guess([example.text for example in examples])
        return [(example, intent, score) for example, (intent, score) in zip(examples, found, strict=True)]

    def right(rows: Iterable[tuple[Example, Intent, float]]) -> float:
        return _percent([intent == example.intent and score >= threshold for example, intent, score in rows])

    single, excluding, requests, composed, far, near, misspelt = map(results, vars(tests).values())
    p_supported, unsupported = [*single, *excluding, *requests, *composed], [*far, *near]
    tasks = dict.fromkeys(example.intent.parts[0] for example in tests.single)
    return Row(
        system=system,
        single=right(single),
        excluding=right(excluding),
        requests=right(requests),
        composed=right(composed),
        pairs=right([row for row in composed if len(row[0].intent.parts) == 2]),
        false_refusals=_percent([score < threshold for *_, score in p_supported]),
        auroc=round(
            100
            * float(
                roc_auc_score([1] * len(p_supported) + [0] * len(unsupported), [score for *_, score in p_supported + unsupported])
            ),
            2,
        ),
        far=_percent([score < threshold for *_, score in far]),
        near=_percent([score < threshold for *_, score in near]),
        misspelt=right(misspelt),
        by_task={task: right([row for row in single if row[0].intent.parts[0] == task]) for task in tasks},
    )


def _percent(hits: Sequence[bool]) -> float:
    return round(100 * sum(hits) / len(hits), 1) if hits else float("nan")


def predictor_system(predictor: Predictor) -> Callable[[Sequence[str]], list[ScoredIntent]]:
    """A predictor's guesses, as if all its tasks were served."""

    def guess(texts: Sequence[str]) -> list[ScoredIntent]:
        found = []
        for prediction in predictor.predict([predictor.mender(text) for text in texts]):
            intent = predictor.space.intents[int(prediction.probs[:-1].argmax())]
            found.append((intent, predictor.record.calibration.probability(prediction.p_supported)))
        return found

    return guess


class NearestWording:
    """The baseline without any training: the intent of the nearest request that is known, by the encoder's sentence vectors.

    Args:
        encoder: gives the vectors.
        tasks: the single tasks.
        seen: orders of parts that may be known.
        composed: how many requests for several tasks are put together.
    """

    def __init__(self, encoder: Encoder, tasks: Sequence[Task], seen: frozenset[tuple[str, ...]], composed: int = 1000) -> None:
        self.encoder, self.known = encoder, _exact_wordings(tasks, seen, composed)

    @cached_property
    def _vectors(self) -> Float[Tensor, "request size"]:
        texts = [example.text for example in self.known]
        return torch.cat([self.encoder.sentences(texts[start : start + 256]) for start in range(0, len(texts), 256)])

    def __call__(self, texts: Sequence[str]) -> list[ScoredIntent]:
        """Of each text, the nearest served request's intent; the score is by how much it is nearer than any foreign one."""
        alike = torch.cat([self.encoder.sentences(texts[i : i + 256]) for i in range(0, len(texts), 256)]) @ self._vectors.T
        unsupported = torch.tensor([example.intent == UNSUPPORTED for example in self.known])
        p_supported, at = alike.masked_fill(unsupported, -2.0).max(1)
        margin = p_supported - alike.masked_fill(~unsupported, -2.0).amax(1)
        return [(self.known[i].intent, score) for i, score in zip(at.tolist(), margin.tolist(), strict=True)]


class WordStatistics:
    """The baseline by word statistics: logistic regression on TF-IDF of words and letters; every intent is a class.

    Args:
        tasks: the single tasks.
        seen: orders of parts that may be known.
        composed: how many requests for several tasks are put together.
    """

    def __init__(self, tasks: Sequence[Task], seen: frozenset[tuple[str, ...]], composed: int = 1000) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
        from sklearn.pipeline import make_pipeline, make_union  # noqa: PLC0415

        known = _exact_wordings(tasks, seen, composed)
        ngrams = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
        words = TfidfVectorizer(ngram_range=(1, 3), sublinear_tf=True, token_pattern=r"[\w']+")
        self._model = make_pipeline(make_union(ngrams, words), LogisticRegression(C=50, max_iter=300, class_weight="balanced"))
        self.intents = {str(example.intent): example.intent for example in known}
        self._model.fit([example.text for example in known], [str(example.intent) for example in known])

    def __call__(self, texts: Sequence[str]) -> list[ScoredIntent]:
        """The likeliest class that is served, and its probability."""
        probs = self._model.predict_proba(texts)
        names = list(self._model.classes_)
        if str(UNSUPPORTED) in names:
            probs[:, names.index(str(UNSUPPORTED))] = 0
        return [(self.intents[names[at]], float(row[at])) for row, at in zip(probs, probs.argmax(1), strict=True)]


def _exact_wordings(tasks: Sequence[Task], seen: frozenset[tuple[str, ...]], composed: int) -> list[Example]:
    """What the baselines know: the train requests, and some for several tasks that the bank has masks for."""
    source = RequestSource(tuple(tasks), "train", seen)
    found = [Example(text, Intent((task,))) for task, texts in source.singles.items() for text in texts]
    found += [Example(text, UNSUPPORTED) for texts in source.unsupported.values() for text in texts]
    orders = [parts for parts in seen if len(parts) > 1] or list(source.orders[2])
    rng = np.random.default_rng(0)
    for at in range(composed):
        parts = orders[at % len(orders)]
        form = ("pipe", "json")[at // len(orders) % 2]
        found.append(source.composed(f"{form}{len(parts)}", parts, rng))
    return found


def baseline_threshold(
    guess: Callable[[Sequence[str]], list[ScoredIntent]], tasks: Sequence[Task], seen: frozenset, seed: int = 1
) -> float:
    """The line of refusal of a baseline, set on dev as the predictor's."""
    p_supported = [example for example in dev_examples(tasks, seen, seed) if example.intent != UNSUPPORTED]
    return conformal_threshold([score for _, score in guess([example.text for example in p_supported])], 0.03)


@dataclass(frozen=True)
class BitsRow:
    """How near predicted bits come to the bank's, over held out wordings of its single tasks, in percent.

    Attributes:
        system: what was measured.
        same: heads that are as in the bank's mask.
        jaccard: heads on in both, of those on in either.
        whole: wordings whose every head is right.
    """

    system: str
    same: float
    jaccard: float
    exact_masks: float


def bits_table(predictor: Predictor, masks: Sequence[HeadMask], tests: TestSet) -> list[BitsRow]:
    """Predicted bits against the bank's; controls are the mean of all masks, and the bits for another task's wording.

    Masks of other models than the predictor's are left out; without masks there are no rows.
    """
    ours = [mask for mask in masks if mask.identity.same(predictor.identity)]
    by_task = {mask.task.name: mask for mask in ours if mask.task and mask.task.form == "plain"}
    chosen = [example for example in tests.single if example.intent.parts[0] in by_task]
    if not chosen:
        return []
    present = predictor.identity.geometry.switchable
    truth = torch.stack([by_task[example.intent.parts[0]].bits[present] for example in chosen])
    results = torch.stack([each.logits[present] >= 0 for each in predictor.predict([example.text for example in chosen])])
    mean = torch.stack([mask.gates[present] for mask in by_task.values()]).mean(0) >= 0.5
    rng, tasks = np.random.default_rng(0), np.array([example.intent.parts[0] for example in chosen])
    shuffled = results[[int(rng.choice(np.flatnonzero(tasks != task)) if (tasks != task).any() else 0) for task in tasks]]
    rows = (("predicted", results), ("shuffled instructions", shuffled), ("mean mask", mean.expand(truth.shape)))
    return [_bits(name, bits, truth) for name, bits in rows]


def _bits(system: str, results: Tensor, truth: Tensor) -> BitsRow:
    both, either = (results & truth).sum(1), (results | truth).sum(1).clamp(min=1)
    figures = (results == truth).float().mean(), (both / either).mean(), (results == truth).all(1).float().mean()
    return BitsRow(system, *(round(100 * float(figure), 1) for figure in figures))
