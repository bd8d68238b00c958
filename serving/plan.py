"""Plans: tasks one after the other over the same audio, where an answer may decide whether the next one is asked.

    osr THEN gr                 both; gr only where osr heard something
    gr THEN asr IF female       asr only where gr says female
    gr THEN asr IF NOT male     the same
    ser THEN asr IF sad OR angry
    gr THEN asr IF female THEN ser IF male

IF speaks of the nearest step before it that can give such an answer. A step without IF is asked where the one right before it
was, and said something. Of a clip that is longer than the model hears, and split at its pauses (`--long split`), each piece goes
through the plan by itself, so that IF also chooses parts of a clip. A step is one task, which may be a composite (`gr|asr`);
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
from ..mask_bank.mask import HeadMask

_WORD = re.compile(r"\"([^\"]*)\"|'([^']*)'|([^\s\"']+|[\"'])")
_THEN, _IF, _OR, _NOT = "THEN", "IF", "OR", "NOT"
_EXAMPLE = "write it like 'gr THEN asr IF female'"


@dataclass(frozen=True)
class ParsedStep:
    """A step as it was written.

    Attributes:
        task: what is asked: a task or a mask.
        labels: answers of a step before it, of which one is the condition; none for no condition.
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
class PlanStep:
    """A step with its mask.

    Attributes:
        mask: what does it.
        condition: when it is asked; None for where the step before it said something.
    """

    mask: HeadMask
    condition: Condition | None = None


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
    """Read a plan of two steps or more.

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
    steps = [_parse_step(words) for words in groups]
    if steps[0].labels:
        raise _error("the first step has nothing before it to depend on", steps[0].condition, "put IF behind a later one")
    return tuple(steps)


def _parse_step(words: Sequence[tuple[str, bool, Span]]) -> ParsedStep:
    (task, _, span), *rest = words
    if not rest:
        return ParsedStep(task, span=span)
    word, quoted, at = rest[0]
    if quoted or word.upper() != _IF:
        remedy = "write gr|asr for a composite, or keep the expression as a mask with 'amask compose' and name that"
        raise _error(f"a step is one task and perhaps IF; got {word!r} after {task!r}", at, remedy)
    labels = list(rest[1:])
    negated = bool(labels) and not labels[0][1] and labels[0][0].upper() == _NOT
    labels = labels[negated:]
    between = labels[1::2]
    if len(labels) % 2 == 0 or any(quoted or word.upper() != _OR for word, quoted, _ in between):
        raise _error("IF takes an answer, or several with OR between them", at, _EXAMPLE)
    first, last = labels[0][2], labels[-1][2]
    said = tuple(word for word, _, _ in labels[::2])
    return ParsedStep(task, said, negated, span, Span(first.start, last.end, first.text))


def resolve_plan(parsed: Sequence[ParsedStep], lookup: Callable[[str], HeadMask]) -> tuple[PlanStep, ...]:
    """Find the steps' masks, and which answers their conditions speak of.

    Args:
        parsed: as written.
        lookup: task or mask → mask.

    Raises:
        MaskError: a mask has no task, or no step before a condition can give its answer.
        BankError: there is no mask for a step.
    """
    steps: list[PlanStep] = []
    for each in parsed:
        try:
            mask = lookup(each.task)
        except AmaskError as error:
            if each.span:
                error.args = (f"{error} (at {each.span})",)
            raise
        if mask.task is None:
            raise _error(f"{each.task!r} is a mask without a task", each.span, "a step needs one, such as gr")
        steps.append(PlanStep(mask, _condition(each, steps) if each.labels else None))
    return tuple(steps)


def _condition(parsed: ParsedStep, before: Sequence[PlanStep]) -> Condition:
    """The nearest step before a step that can give the answers that its condition names."""
    wanted = [label.casefold() for label in parsed.labels]
    known: dict[str, tuple[str, ...]] = {}
    for at in range(len(before) - 1, -1, -1):
        task = before[at].mask.task
        for part in task.parts if task else ():
            labels = {label.casefold(): label for label in part.labels}
            if all(label in labels for label in wanted):
                return Condition(at, part, tuple(labels[label] for label in wanted), parsed.negated)
            known |= {part.name: part.labels} if labels else {}
    if not known:
        raise _error("no task before this IF answers with labels", parsed.condition, "a condition needs one, such as gr")
    everything = [label for labels in known.values() for label in labels]
    near = [close for label in parsed.labels for close in difflib.get_close_matches(label, everything, n=1)]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    named = " or ".join(map(repr, parsed.labels))
    answers = "; ".join(f"{name} answers {' or '.join(labels)}" for name, labels in known.items())
    raise _error(f"no task before this IF answers {named}", parsed.condition, f"{hint}{answers}")


def step_runs(step: PlanStep, before: Sequence[str | None], plan: Sequence[PlanStep]) -> bool:
    """Whether a step is asked, given the answers of those before it (None where they were not asked)."""
    if step.condition is None:
        return not before or bool(before[-1])
    condition = step.condition
    said, task = before[condition.step], plan[condition.step].mask.task
    parts = task.split(said) if said is not None and task is not None else None
    if parts is None:
        return False
    label = find_label(parts[condition.part.name], condition.part.labels)
    return label is not None and (label in condition.labels) != condition.negated


def final_answer(said: Sequence[str | None]) -> tuple[int, str]:
    """A plan's answer: the number and the words of the last step that was asked; (0, "") where none was after the first."""
    last = max(at for at, text in enumerate(said) if text is not None)
    return (last, said[last] or "") if last else (0, "")


def describe_steps(plan: Sequence[PlanStep]) -> list[str]:
    """A line a step: what it is, by which mask, and when it is asked."""
    lines = []
    for at, step in enumerate(plan):
        when = str(step.condition) if step.condition else f"where step {at} said something" if at else "every clip"
        lines.append(f"step {at + 1}: {step.mask.task_name} by {step.mask.called}, {when}")
    return lines
