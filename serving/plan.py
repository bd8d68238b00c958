"""Plans: tasks one after the other over the same audio, where an answer may decide whether the next one is asked.

    osr THEN gr                 both; gr only where osr heard something
    gr THEN asr IF female       asr only where gr says female
    gr THEN asr IF NOT male     the same
    ser THEN asr IF sad OR angry
    gr THEN asr IF female THEN ser IF male

IF speaks of the nearest hop before it that can give such an answer. A hop without IF is asked where the one right before it
was, and said something. Of a clip that is longer than the model hears, and cut at its pauses (`--long cut`), each piece goes
through the plan by itself, so that IF also chooses parts of a clip. A hop is one task, which may be a composite (`gr|asr`);
there are no brackets.
"""

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..composer.expression import Span
from ..data.labels import find_label
from ..data.tasks import Task
from ..errors import AmaskError, MaskError
from ..lalm.answering import Answer
from ..lalm.batching import AudioFeatures
from ..mask_bank.mask import HeadMask

_WORD = re.compile(r"\"([^\"]*)\"|'([^']*)'|([^\s\"']+|[\"'])")
_THEN, _IF, _OR, _NOT = "THEN", "IF", "OR", "NOT"
_EXAMPLE = "write it like 'gr THEN asr IF female'"


@dataclass(frozen=True)
class ParsedStep:
    """A step as it was written.

    Attributes:
        task: what is asked: a task or a mask.
        labels: answers of a hop before it, of which one is the condition; none for no condition.
        negated: whether the condition is any other answer.
        span: where the task is written.
        condition: where the labels are.
    """

    task: str
    labels: tuple[str, ...] = ()
    negated: bool = False
    span: Span | None = None
    condition: Span | None = None


@dataclass(frozen=True)
class Condition:
    """When a step is asked.

    Attributes:
        step: the number of the step that decides, from 0.
        part: the part of its answer that does.
        labels: the answers that are meant.
        negated: whether any other answer is meant.
    """

    step: int
    part: Task
    labels: tuple[str, ...]
    negated: bool

    def __str__(self) -> str:
        """`where step 1 says female or male`."""
        return f"where step {self.step + 1} {'does not say' if self.negated else 'says'} {' or '.join(self.labels)}"


@dataclass(frozen=True)
class Step:
    """A hop with its mask.

    Attributes:
        mask: what does it.
        condition: when it is asked; None for where the step before it said something.
    """

    mask: HeadMask
    condition: Condition | None = None


Plan = tuple[Step, ...]


def is_plan(text: str) -> bool:
    """Whether a text has a THEN in it."""
    return any(word.upper() == _THEN for word, quoted, _ in _words(text) if not quoted)


def _words(text: str) -> list[tuple[str, bool, Span]]:
    """The words of a text: each, whether it is in quotes, and where it is."""
    found = []
    for match in _WORD.finditer(text):
        quoted = match[3] is None
        word = match[match.lastindex or 3]
        found.append((word, quoted, Span(match.start() + 1, match.end() + 1, text)))
    return found


def _error(what: str, span: Span | None, remedy: str) -> MaskError:
    return MaskError(f"{what}{f', at {span}' if span else ''}; {remedy}")


def parse_plan(text: str) -> tuple[ParsedStep, ...]:
    """Read a plan of two hops or more.

    Raises:
        MaskError: it cannot be read; the message tells the column.
    """
    groups: list[list[tuple[str, bool, Span]]] = [[]]
    for word in _words(text):
        if word[0] in ("'", '"') and not word[1]:
            raise _error("a quote is never closed", word[2], _EXAMPLE)
        if word[0].upper() == _THEN and not word[1]:
            groups.append([])
        else:
            groups[-1].append(word)
    if len(groups) < 2 or not all(groups):
        raise _error("a plan is tasks with THEN between them", Span(1, len(text) + 1, text), _EXAMPLE)
    hops = [_hop(words) for words in groups]
    if hops[0].labels:
        raise _error("the first hop has nothing before it to depend on", hops[0].condition, "say IF of a later one")
    return tuple(hops)


def _hop(words: Sequence[tuple[str, bool, Span]]) -> ParsedStep:
    (task, _, span), *rest = words
    if not rest:
        return ParsedStep(task, span=span)
    word, quoted, at = rest[0]
    if quoted or word.upper() != _IF:
        remedy = "write gr|asr for a composite, or keep the expression as a mask with 'amask compose' and name that"
        raise _error(f"a hop is one task and perhaps IF; got {word!r} after {task!r}", at, remedy)
    labels = list(rest[1:])
    negated = bool(labels) and not labels[0][1] and labels[0][0].upper() == _NOT
    labels = labels[negated:]
    between = labels[1::2]
    if len(labels) % 2 == 0 or any(quoted or word.upper() != _OR for word, quoted, _ in between):
        raise _error("IF takes an answer, or several with OR between them", at, _EXAMPLE)
    first, last = labels[0][2], labels[-1][2]
    said = tuple(word for word, _, _ in labels[::2])
    return ParsedStep(task, said, negated, span, Span(first.start, last.end, first.text))


def resolve_plan(hops: Sequence[ParsedStep], lookup: Callable[[str], HeadMask]) -> Plan:
    """Find the hops' masks, and which answers their conditions speak of.

    Args:
        hops: as written.
        lookup: task or mask → mask.

    Raises:
        MaskError: a mask has no task, or no hop before a condition can give its answer.
        BankError: there is no mask for a hop.
    """
    steps: list[Step] = []
    for hop in hops:
        try:
            mask = lookup(hop.task)
        except AmaskError as error:
            if hop.span:
                error.args = (f"{error} (at {hop.span})",)
            raise
        if mask.task is None:
            raise _error(f"{hop.task!r} is a mask without a task", hop.span, "a hop needs one, such as gr")
        steps.append(Step(mask, _condition(hop, steps) if hop.labels else None))
    return tuple(steps)


def _condition(hop: ParsedStep, before: Sequence[Step]) -> Condition:
    """The nearest step before a hop that can give the answers that its condition names."""
    wanted = [label.casefold() for label in hop.labels]
    known: list[str] = []
    for at in range(len(before) - 1, -1, -1):
        task = before[at].mask.task
        for part in task.parts if task else ():
            labels = {label.casefold(): label for label in part.labels}
            if all(label in labels for label in wanted):
                return Condition(at, part, tuple(labels[label] for label in wanted), hop.negated)
            known += part.labels
    if not known:
        raise _error("no hop before this IF answers with labels", hop.condition, "a condition needs one, such as gr")
    near = [close for label in hop.labels for close in difflib.get_close_matches(label, known, n=1)]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    said = " or ".join(map(repr, hop.labels))
    raise _error(f"no hop before it answers {said}", hop.condition, f"{hint}there are {', '.join(dict.fromkeys(known))}")


def _runs(step: Step, before: Sequence[Answer | None], plan: Plan) -> bool:
    """Whether a step is asked, given the answers of those before it (None where they were not asked)."""
    if step.condition is None:
        return not before or bool(before[-1] and before[-1].text)
    condition = step.condition
    said, task = before[condition.step], plan[condition.step].mask.task
    parts = task.split(said.text) if said is not None and task is not None else None
    if parts is None:
        return False
    label = find_label(parts[condition.part.name], condition.part.labels)
    return label is not None and (label in condition.labels) != condition.negated


Say = Callable[[AudioFeatures, HeadMask], Sequence[Answer]]
"""(clips, mask) → what it answers to each."""


def run_plan(features: AudioFeatures, plan: Plan, say: Say) -> list[list[Answer | None]]:
    """AnswerFn a plan's steps of some clips, each step of all its clips at once.

    Args:
        features: the clips, encoded once for all steps.
        plan: the steps.
        say: answers.

    Returns:
        Of each clip what each step answered; None where it was not asked.
    """
    said: list[list[Answer | None]] = [[] for _ in range(len(features))]
    for step in plan:
        asked = [clip for clip, before in enumerate(said) if _runs(step, before, plan)]
        answers = dict(zip(asked, say(features.rows(asked), step.mask) if asked else (), strict=True))
        for clip, before in enumerate(said):
            before.append(answers.get(clip))
    return said


def final_answer(said: Sequence[str | None]) -> tuple[int, str]:
    """A plan's answer: the number and the words of the last step that was asked; (0, "") where none was after the first."""
    last = max(at for at, text in enumerate(said) if text is not None)
    return (last, said[last] or "") if last else (0, "")


def describe_plan(plan: Plan) -> list[str]:
    """A line a step: what it is, by which mask, and when it is asked."""
    lines = []
    for at, step in enumerate(plan):
        when = str(step.condition) if step.condition else f"where step {at} said something" if at else "every clip"
        lines.append(f"step {at + 1}: {step.mask.task_name} by {step.mask.called}, {when}")
    return lines
