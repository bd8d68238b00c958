"""From the answers for a clip's segments to its result: joined, in the form that was asked for, with what is doubtful."""

from collections.abc import Sequence
from typing import Any

from ..data.tasks import Task
from ..errors import DataError
from .clips import HeardClip
from .doubts import doubts, silent_segments
from .plan import final_answer
from .results import Result, SegmentAnswer, join_answers, join_confidence, shape_answer
from .routing import ByMask, Plan, Prompt, Route


def _about(route: Route) -> dict[str, Any]:
    """What a result says of its route."""
    return {
        "task": route.task_name,
        "mode": route.mode,
        "mask": route.mask_names,
        "heads_on": route.mask.heads_on if isinstance(route, ByMask) else None,
        "instruction": route.instruction,
        "prompt": (route.text or None) if isinstance(route, Prompt) else None,
        "format": route.answer_format,
    }


def failed_result(name: str, error: str, route: Route) -> Result:
    """The result of a clip that has no answer."""
    return Result(name, error=error, **_about(route))


def build_result(
    clip: HeardClip,
    answers: Sequence[SegmentAnswer],
    route: Route,
    *,
    rate: int,
    known: Sequence[Task],
    seconds: float = 0.0,
) -> Result:
    """The result of a clip.

    Args:
        clip: the clip.
        answers: of its segments, in order.
        route: what was done.
        rate: Hz of the segments.
        known: all single tasks, whose voices are noticed.
        seconds: that answering took.
    """
    weights = [float(len(segment)) for segment in clip.segments]
    about = _about(route)
    about |= {"duration": round(clip.seconds, 3), "segments": len(answers), "seconds": round(seconds, 4)}
    if any(answer.incomplete for answer in answers):
        error = f"{clip.name}: truncated before the JSON was complete; raise --max-new-tokens, or ask for less"
        return Result(clip.name, error=error, **about)
    tasks: tuple[Task, ...] = ()
    if isinstance(route, Plan):
        text, parts = join_plan_answers(route, answers, weights)
        names = [step.mask.task_name for step in route.steps]
        about["steps"] = tuple(tuple(zip(names, answer.steps, strict=True)) for answer in answers)
    else:
        task = None if isinstance(route, Prompt) else route.task
        text, parts = join_answers(task, answers, weights)
        tasks = task.parts if task else ()
        about["confidence"] = join_confidence(tasks, parts, answers, weights)
    try:
        text = shape_answer(text, parts, route.answer_format) if text or parts else _no_answer(route)
    except DataError as error:
        return Result(clip.name, error=f"{clip.name}: {error}", **about)
    warnings = [*clip.warnings, *doubts(tasks, parts, about.get("confidence"), known)]
    if not isinstance(route, Plan):
        warnings += silent_segments(tasks, answers, clip.segments, rate)
    truncated = any(answer.truncated for answer in answers)
    return Result(clip.name, text, parts, warnings=tuple(warnings), truncated=truncated, **about)


def _no_answer(route: Route) -> str:
    """What is written where nothing was answered, such as by a plan whose condition does not hold: JSON stays JSON."""
    return "{}" if route.answer_format and route.answer_format.layout_of(0) == "json" else ""


def join_plan_answers(route: Plan, answers: Sequence[SegmentAnswer], weights: Sequence[float]) -> tuple[str, dict[str, str]]:
    """One answer of a plan's for a clip's segments: of those that came further than the first step.

    Args:
        route: the plan.
        answers: of each segment.
        weights: how much each segment counts.
    """
    reached = [(final_answer(answer.steps)[0], answer, weight) for answer, weight in zip(answers, weights, strict=True)]
    reached = [each for each in reached if each[0]]
    if not reached:
        return "", {}
    last = {at for at, _, _ in reached}
    task = route.steps[last.pop()].mask.task if len(last) == 1 else None
    return join_answers(task, [answer for _, answer, _ in reached], [weight for _, _, weight in reached])
