"""ISA-Bench's scores (arXiv 2510.23558): whether an answer is in the form that was asked for, and how good it is then.

IFR is the share of answers in form. What is out of form counts as empty, so WER_IF, BLEU_IF, METEOR_IF and ACC_IF speak of all
answers. The axes are D, a task in many words; F, a task in many forms; N, two and three tasks in one answer. Files are in the
benchmark's own layout: answers are kept as `variation_responses` of each clip.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rapidfuzz.distance import LCSseq

from ..data.answer_format import AnswerFormat
from ..data.extras import import_extra
from ..data.normalise import tokens
from ..data.text_metrics import meteor, word_errors
from ..errors import DataError, ExtraError

TASKS = {
    "asr": "asr",
    "translation_ec": "s2tt",
    "s2tt": "s2tt",
    "audiocaption": "aac",
    "aac": "aac",
    "emotion_recognition": "ser",
    "ser": "ser",
    "gender_recognition": "gr",
    "gr": "gr",
}
"""The benchmark's names of tasks, and ours."""
LABELS = {"gr": ("male", "female"), "ser": ("happy", "sad", "angry", "neutral")}
PREFIXES = {"asr": "The transcript is: ", "s2tt": "The translation is: ", "aac": "The audio caption is: "}
AXES = ("d", "f", "n")
_GROUPS = {"upper_case": "case", "lower_case": "case", "grammar_robust": "robust", "syntax_robust": "robust"}
_PREAMBLE = re.compile(
    r"^\W*(?:this (?:is|audio|clip|recording)|here(?:'s| is)|caption:|answer:|"
    r"the (?:audio|clip|recording|speaker|speech|transcri\w+|"
    r"translation|caption|answer)\b.*?\b(?:is|are|has|reads|contains|about)\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class IsaAnswer:
    """One answer, and what is right.

    Attributes:
        axis: d, f or n.
        task: our name of the task; of several with bars between.
        variation: how the instruction was varied, such as `default` or `prefix`.
        answer: what the system said.
        reference: what is right: a text, captions with bars between, or a label; of several tasks a table of these.
        form: what its form is: prefix, suffix, wrap, case, keys, separator.
    """

    axis: str
    task: str
    variation: str
    answer: str
    reference: str | Mapping[str, str]
    form: AnswerFormat = AnswerFormat()


def content_in_form(row: IsaAnswer) -> str | None:
    """What an answer of one task says without its form; None where it is out of form."""
    answer = row.answer.strip()
    if row.axis == "d" and row.task in PREFIXES:
        prefix = PREFIXES[row.task].strip()
        return answer[len(prefix) :].strip() if answer.casefold().startswith(prefix.casefold()) else None
    found = _without_form(answer, row.form)
    if found is None:
        return None
    if row.task in LABELS:
        return found if found.casefold() in LABELS[row.task] else None
    if row.variation == "constrain" and _PREAMBLE.match(found):
        return None
    return found


def _without_form(answer: str, form: AnswerFormat) -> str | None:
    """Prefix and suffix are compared to the letter after trimming; upper case has no lower-case letter at all."""
    if form.keys:
        try:
            found = json.loads(answer)
        except (ValueError, RecursionError):
            return None
        value = found.get(form.keys[0]) if isinstance(found, dict) else None
        return value.strip() if isinstance(value, str) else None
    left, right = form.wrap or (form.prefix, form.suffix)
    left, right = left.strip(), right.strip()
    if len(answer) < len(left) + len(right) or not answer.startswith(left) or not answer.endswith(right):
        return None
    inner = answer[len(left) : len(answer) - len(right)].strip()
    wrong = (form.case == "upper" and inner != inner.upper()) or (form.case == "lower" and inner != inner.lower())
    return None if wrong else inner


def parts_in_form(row: IsaAnswer) -> dict[str, str] | None:
    """What an answer of several tasks says of each; None where it is out of form."""
    tasks = row.task.split("|")
    if row.form.keys:
        try:
            found = json.loads(row.answer.strip())
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, dict) or not all(isinstance(found.get(key), str) for key in row.form.keys):
            return None
        pieces = [found[key] for key in row.form.keys]
    else:
        pieces = row.answer.strip().split(row.form.separator or "|")
    if len(pieces) != len(tasks):
        return None
    parts = {task: piece.strip() for task, piece in zip(tasks, pieces, strict=True)}
    return parts if all(parts[task].casefold() in LABELS[task] for task in tasks if task in LABELS) else None


def score_answers(rows: Sequence[IsaAnswer]) -> dict[str, Any]:
    """The benchmark's table: axis → task → variation → scores in percent, and over `all` variations."""
    table: dict[str, Any] = {}
    for axis in ("d", "f"):
        for task in dict.fromkeys(row.task for row in rows if row.axis == axis):
            some = [row for row in rows if (row.axis, row.task) == (axis, task)]
            groups: dict[str, list[IsaAnswer]] = defaultdict(list)
            for row in some:
                groups[row.variation].append(row)
            groups["all"] = some
            table.setdefault(axis, {})[task] = {name: _score_one(task, group) for name, group in groups.items()}
    several = [row for row in rows if row.axis == "n"]
    if several:
        table["n"] = _score_several(several)
    return table


def _score_one(task: str, rows: Sequence[IsaAnswer]) -> dict[str, float]:
    contents = [content_in_form(row) for row in rows]
    references = [str(row.reference) for row in rows]
    return {"ifr": _percent([content is not None for content in contents])} | _quality(task, contents, references)


def _quality(task: str, contents: Sequence[str | None], references: Sequence[str]) -> dict[str, float]:
    """How good the answers are; what is out of form is empty."""
    said = [content or "" for content in contents]
    if task in LABELS:
        return {"acc": _percent([a.casefold() == b.casefold() for a, b in zip(said, references, strict=True)])}
    if task == "asr":
        return {"wer": word_error_rate(said, references)}
    if task == "s2tt":
        return {"bleu": bleu(said, references)}
    return _captions(said, references)


def word_error_rate(said: Sequence[str], references: Sequence[str]) -> float:
    """Corpus WER in percent, of texts that Whisper's English normaliser made alike."""
    errors, words = word_errors(said, references).sum(0)
    return round(100 * float(errors / words), 2)


def bleu(said: Sequence[str], references: Sequence[str]) -> float:
    """Corpus BLEU by sacrebleu; Chinese is cut into characters. 0 where all is empty."""
    sacrebleu = import_extra("sacrebleu", "BLEU")
    chinese = any(re.search(r"[\u4e00-\u9fff]", text) for text in references)
    scorer = sacrebleu.BLEU(tokenize="zh" if chinese else "13a")
    return round(scorer.corpus_score(list(said), [list(references)]).score, 2) if any(said) else 0.0


def _captions(said: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Against several captions; shares of 1, as the benchmark has them. METEOR is nltk's, where WordNet is installed."""
    pairs = [(answer, captions.split("|")) for answer, captions in zip(said, references, strict=True)]
    found = {"ROUGE-L": round(sum(caption_rouge(answer, captions) for answer, captions in pairs) / len(pairs), 4)}
    try:
        best = [float(meteor([answer] * len(each), each)[:, 0].max()) if answer else 0.0 for answer, each in pairs]
    except (DataError, ExtraError):  # nltk or WordNet is not installed
        return found
    return found | {"METEOR": round(sum(best) / len(best), 4)}


def caption_rouge(answer: str, captions: Sequence[str]) -> float:
    """ROUGE-L of COCO's caption evaluation: the best precision and the best recall over the captions, with β = 1.2."""
    said = tokens(answer)
    if not said:
        return 0.0
    common = [(LCSseq.similarity(said, words), len(words)) for words in map(tokens, captions)]
    precision, recall = max(n / len(said) for n, _ in common), max(n / max(count, 1) for n, count in common)
    return 0.0 if not precision or not recall else (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)


def _score_several(rows: Sequence[IsaAnswer]) -> dict[str, Any]:
    read = [(row, parts_in_form(row)) for row in rows]
    table: dict[str, Any] = {}
    for count in (2, 3):
        some = [(row, parts) for row, parts in read if row.task.count("|") == count - 1]
        for task in ("asr", "ser", "gr", "s2tt", "aac"):
            mine = [(row, parts) for row, parts in some if task in row.task.split("|")]
            if mine:
                contents = [None if parts is None else parts[task] for _, parts in mine]
                references = [dict(row.reference)[task] for row, _ in mine if not isinstance(row.reference, str)]
                scores = {"ifr": _percent([content is not None for content in contents])} | _quality(task, contents, references)
                table.setdefault(f"{count}-TASK", {})[task.upper()] = scores | {"n": len(mine)}
    for name in ("separation", "json"):
        some = [(row, parts) for row, parts in read if row.variation == name]
        if some:
            table[name] = {"ifr": _percent([parts is not None for _, parts in some]), "n": len(some)}
    return table


def _percent(hits: Sequence[bool]) -> float:
    return round(100 * sum(hits) / len(hits), 2) if hits else 0.0


def axis_rates(rows: Sequence[IsaAnswer]) -> dict[str, float]:
    """IFR of each kind of variation over all tasks, in percent: the arms of the radar."""
    found: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        held = parts_in_form(row) is not None if row.axis == "n" else content_in_form(row) is not None
        found[f"{row.axis.upper()} {_GROUPS.get(row.variation, row.variation) if row.axis == 'd' else row.variation}"].append(
            held
        )
    return {name: _percent(hits) for name, hits in found.items()}


def area(rates: Mapping[str, float]) -> float:
    """The area of a radar against the full one, in percent."""
    values = [rate / 100 for rate in rates.values()]
    return (
        round(100 * sum(a * b for a, b in zip(values, [*values[1:], values[0]], strict=True)) / len(values), 1) if values else 0.0
    )


def read_answers(path: Path) -> list[IsaAnswer]:
    """The answers of a file in the benchmark's layout.

    Raises:
        DataError: it cannot be read, or is laid out otherwise.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        axis = path.name[:1]
        if axis == "n":
            return [row for clip in found["annotation"] for row in _several(clip)]
        return [row for clip in found for row in _single(axis, clip)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"cannot read {path} as answers of ISA-Bench: {error!r}; expected its own layout") from None


def _single(axis: str, clip: Mapping[str, Any]) -> Iterator[IsaAnswer]:
    task, reference = TASKS[clip["task"]], clip["text"]
    for variation, answers in clip["variation_responses"].items():
        for name, answer, form in _leaves(variation, answers):
            caption = task in ("aac", "s2tt") and axis == "d"
            yield IsaAnswer(axis, task, name if caption else variation, answer, reference, form)


def _leaves(variation: str, answers: Any) -> Iterator[tuple[str, str, AnswerFormat]]:  # noqa: ANN401 - as JSON has it
    if isinstance(answers, str):
        yield variation, answers, form_of_variation(variation, {})
    elif isinstance(answers, list):
        for each in answers:
            yield from _leaves(variation, each)
    elif "response" in answers:
        yield variation, answers["response"], form_of_variation(variation, answers)
    else:
        for name, answer in answers.items():
            yield name, answer, AnswerFormat()


def form_of_variation(variation: str, about: Mapping[str, Any]) -> AnswerFormat:
    """The form that a variation asks for, with what its entry says of it."""
    match variation:
        case "upper_case" | "lower_case":
            return AnswerFormat(case="upper" if variation == "upper_case" else "lower")
        case "prefix" | "suffix":
            return AnswerFormat.model_validate({variation: about[variation]})
        case "wrap":
            left, _, right = about["lrt"].partition("|")
            return AnswerFormat(wrap=(left, right))
        case "json":
            return AnswerFormat(layout="json", keys=(about["key"],))
    return AnswerFormat()


def _several(clip: Mapping[str, Any]) -> Iterator[IsaAnswer]:
    reference = {"asr": clip["text"], "ser": clip["emotion"], "gr": clip["gender"]}
    for stage in clip["instructions"]["variations"].values():
        for variation, groups in stage.items():
            for each in (entry for group in groups for entry in group):
                form = (
                    AnswerFormat(separator=each["separator"])
                    if variation == "separation"
                    else AnswerFormat(layout="json", keys=tuple(each["key"].split("|")))
                )
                yield IsaAnswer("n", each["task"].lower(), variation, each["response"], reference, form)


def read_folder(folder: Path) -> list[IsaAnswer]:
    """All answers of a folder of files named such as `d_asr_results.json`.

    Raises:
        DataError: there are none, or one cannot be read.
    """
    paths: Iterable[Path] = sorted(folder.glob("[dfn]_*_results.json"))
    found = [row for path in paths for row in read_answers(path)]
    if not found:
        raise DataError(f"{folder} has no answers of ISA-Bench, such as d_asr_results.json")
    return found
