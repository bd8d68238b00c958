"""Metrics: answers and references → values, all in percent.

Word error rate is taken after Whisper's English normaliser (Radford et al. 2022, appendix C), with its step for numbers
tamed: it makes one word of "four five nine" (459), so that a wrong digit would spoil the whole string. Here that step
runs only where the answer or its reference writes a number in digits, and digits are then counted one by one.
"""

import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import jiwer
import sacrebleu

from ..errors import DataError
from .tasks import Metric, Task, TaskSpec

Normaliser = Callable[[str], str]


@dataclass(frozen=True)
class Score:
    """One figure of an evaluation.

    Attributes:
        metric: "wer", "acc", "bleu" or "rouge_l"; of a composite also "exact" and "ifr".
        value: in percent; word error rates may exceed 100.
        part: the single task that is measured within a composite; empty where it is the whole answer.
    """

    metric: str
    value: float
    part: str = ""

    @property
    def name(self) -> str:
        """`wer`, or `asr.wer` for a part of a composite."""
        return f"{self.part}.{self.metric}" if self.part else self.metric

    @property
    def better(self) -> Literal["higher", "lower"]:
        """Which values are the better ones."""
        return "lower" if self.metric == "wer" else "higher"


@cache
def _normalisers() -> tuple[Normaliser, Normaliser, Normaliser]:
    """For English with numbers in digits, for English with numbers as they are, for any language."""
    # 2 s to import
    from transformers.models.whisper.english_normalizer import (  # noqa: PLC0415
        BasicTextNormalizer,
        EnglishTextNormalizer,
    )

    # The table of British and American spellings comes with Whisper's checkpoints, not with its code.
    numbers, words = EnglishTextNormalizer({}), EnglishTextNormalizer({})
    words.standardize_numbers = str  # type: ignore[assignment]
    return numbers, words, BasicTextNormalizer()


def _words(answer: str, reference: str) -> tuple[str, str]:
    """Both texts normalised for word errors, alike."""
    numbers, words, _ = _normalisers()
    if re.search(r"\d", answer + reference) is None:
        return words(answer).strip(), words(reference).strip()
    spelled = (re.sub(r"(\d)", r" \1 ", numbers(text)) for text in (answer, reference))
    left, right = (" ".join(text.split()) for text in spelled)
    return left, right


def _label(text: str) -> str:
    return text.casefold().strip(string.punctuation + string.whitespace)


def wer(answers: Sequence[str], references: Sequence[str]) -> float:
    """Word error rate of the corpus: all errors over all reference words.

    Punctuation does not count, so neither does the ";" between overlapping speakers. Where a reference is empty, each
    word of the answer is an insertion; where all are, the errors are divided by 1.
    """
    pairs = [_words(answer, reference) for answer, reference in zip(answers, references, strict=True)]
    errors = sum(len(answer.split()) for answer, reference in pairs if not reference)
    words = 0
    spoken = [(answer, reference) for answer, reference in pairs if reference]
    if spoken:  # older versions of jiwer refuse empty references
        found = jiwer.process_words([reference for _, reference in spoken], [answer for answer, _ in spoken])
        errors += found.substitutions + found.deletions + found.insertions
        words = found.substitutions + found.deletions + found.hits
    return 100 * errors / max(words, 1)


def accuracy(answers: Sequence[str], references: Sequence[str]) -> float:
    """Share of answers that are the right label; case and surrounding punctuation do not count."""
    return _share([_label(answer) == _label(reference) for answer, reference in zip(answers, references, strict=True)])


def bleu(answers: Sequence[str], references: Sequence[str]) -> float:
    """Corpus BLEU as sacrebleu has it, case and punctuation included; Chinese references are cut into characters."""
    chinese = any(re.search(r"[\u4e00-\u9fff]", reference) for reference in references)
    # effective_order only matters where no answer has four words: a right one is then worth 100, not 0.
    metric = sacrebleu.BLEU(tokenize="zh" if chinese else "13a", effective_order=True)
    return metric.corpus_score(list(answers), [list(references)]).score


def rouge_l(answers: Sequence[str], references: Sequence[str]) -> float:
    """Mean ROUGE-L F1, without stemming."""
    from rouge_score.rouge_scorer import RougeScorer  # noqa: PLC0415 (3 s to import)

    scorer = RougeScorer(["rougeL"])
    pairs = zip(answers, references, strict=True)
    found = [float(scorer.score(reference, answer)["rougeL"].fmeasure) for answer, reference in pairs]
    return 100 * sum(found) / len(found)


METRICS: dict[Metric, Callable[[Sequence[str], Sequence[str]], float]] = {
    "wer": wer,
    "acc": accuracy,
    "bleu": bleu,
    "rouge_l": rouge_l,
}


def _share(right: Sequence[bool]) -> float:
    return 100 * sum(right) / len(right)


def is_right(task: Task, answer: str, reference: str) -> bool:
    """Whether an answer to a single task is exactly right, by what its metric overlooks: case and punctuation."""
    metric = task.metric
    if metric == "acc":
        return _label(answer) == _label(reference)
    if metric == "wer":
        left, right = _words(answer, reference)
        return left == right
    basic = _normalisers()[2]
    return basic(answer).strip() == basic(reference).strip()


def score(spec: TaskSpec, answers: Sequence[str], references: Sequence[str]) -> list[Score]:
    """Score the answers to one task; the headline comes first.

    A single task has its metric. A composite has "exact" (every part right), "ifr" (AHAMask's instruction following
    rate: the share of answers in the asked form), and each part's metric over all answers, where an answer that is not
    in the form counts as an empty answer to every part.

    Raises:
        DataError: there are no answers, or not as many as references, or a reference is not in the task's form.
    """
    if not answers or len(answers) != len(references):
        raise DataError(f"cannot score {spec.name!r}: got {len(answers)} answers for {len(references)} references")
    if spec.form == "plain":
        metric = spec.parts[0].metric
        return [Score(metric, METRICS[metric](answers, references))]
    found = [spec.split(answer) for answer in answers]
    wanted = []
    for reference in references:
        parts = spec.split(reference)
        if parts is None:
            raise DataError(f"cannot score {spec.name!r}: reference {reference!r} is not in the {spec.form} form")
        wanted.append(parts)
    exact = [
        got is not None and all(is_right(part, got[part.name], right[part.name]) for part in spec.parts)
        for got, right in zip(found, wanted, strict=True)
    ]
    scores = [Score("exact", _share(exact)), Score("ifr", _share([got is not None for got in found]))]
    for part in spec.parts:
        metric = part.metric
        said = [got[part.name] if got is not None else "" for got in found]
        scores.append(Score(metric, METRICS[metric](said, [right[part.name] for right in wanted]), part.name))
    return scores
