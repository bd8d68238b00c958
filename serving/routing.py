"""Requests and routes as data; `RouteChooser` makes the one of the other.

A request is an instruction in words, a task, a mask or a prompt. Its route says which masks do it: one (`ByMask`), each
part's own on rows of one batch (`Parallel`), one after the other under conditions (`Plan`), or none, by a prompt (`Prompt`).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..data.answer_format import AnswerFormat
from ..data.tasks import TaskSpec
from ..errors import InstructionError
from ..mask_bank.mask import HeadMask
from .plan import PlanStep, describe_steps, is_plan

RouteMode = Literal["auto", "one-pass", "parallel"]
ROUTE_MODES: tuple[RouteMode, ...] = ("auto", "one-pass", "parallel")


@dataclass(frozen=True, kw_only=True)
class RouteBase(ABC):
    """What all routes have.

    Attributes:
        instruction: what was asked in words, if it was.
        confidence: the probability that the instruction was understood.
        reason: a sentence on the choice; empty where there was none.
        warnings: what the user should know of it.
        answer_format: the form that answers are put into; None leaves them in the task's own.
    """

    instruction: str | None = None
    confidence: float | None = None
    reason: str = ""
    warnings: tuple[str, ...] = ()
    answer_format: AnswerFormat | None = None

    @property
    def used_masks(self) -> tuple[HeadMask, ...]:
        """All masks that have a part in it."""
        return ()

    @property
    def mask_names(self) -> str:
        """The mask's name, or the masks' with + between."""
        return "+".join(mask.called for mask in self.used_masks)

    @property
    def task_name(self) -> str:
        """The task's name; empty where there is none."""
        return ""

    @property
    @abstractmethod
    def mode(self) -> str:
        """`one-pass`, `parallel`, `plan`, `prompt` or `unprompted`."""

    def explain(self) -> list[str]:
        """Lines that say which masks do it, and when."""
        return [
            f"{mask.task_name or 'a mask'} by {mask.called}, {mask.heads_on} of {mask.heads_total} heads on"
            for mask in self.used_masks
        ]

    def as_row(self) -> dict[str, Any]:
        """The route as a row of JSON."""
        return {
            "instruction": self.instruction,
            "task": self.task_name or None,
            "mode": self.mode,
            "mask": self.mask_names or None,
            "heads_on": self.used_masks[0].heads_on if len(self.used_masks) == 1 else None,
            "confidence": None if self.confidence is None else round(self.confidence, 4),
            "format": self.answer_format.as_dict() if self.answer_format else None,
            "reason": self.reason or None,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class ByMask(RouteBase):
    """One mask does it in one pass.

    Attributes:
        mask: the mask.
        name: what it is called in the bank.
        task: what it does, where that is known.
    """

    mask: HeadMask
    name: str = ""
    task: TaskSpec | None = None

    @property
    def used_masks(self) -> tuple[HeadMask, ...]:
        """The mask."""
        return (self.mask,)

    @property
    def mask_names(self) -> str:
        """The mask's name."""
        return self.name or self.mask.called

    @property
    def task_name(self) -> str:
        """The task's."""
        return self.task.name if self.task else ""

    @property
    def mode(self) -> str:
        """`one-pass`."""
        return "one-pass"


@dataclass(frozen=True)
class Parallel(RouteBase):
    """Each part of a composite by its own mask, on rows of one batch.

    Attributes:
        task: the composite.
        masks: the parts', in the order of the answer.
        names: what they are called.
    """

    task: TaskSpec
    masks: tuple[HeadMask, ...]
    names: tuple[str, ...] = ()

    @property
    def used_masks(self) -> tuple[HeadMask, ...]:
        """The parts' masks."""
        return self.masks

    @property
    def mask_names(self) -> str:
        """The masks' names."""
        return "+".join(self.names or (mask.called for mask in self.masks))

    @property
    def task_name(self) -> str:
        """The composite's."""
        return self.task.name

    @property
    def mode(self) -> str:
        """`parallel`."""
        return "parallel"


@dataclass(frozen=True)
class Plan(RouteBase):
    """Tasks one after the other, where an answer may decide whether the next one is asked; see `serving.plan`."""

    steps: tuple[PlanStep, ...]

    @property
    def used_masks(self) -> tuple[HeadMask, ...]:
        """The steps' masks."""
        return tuple(step.mask for step in self.steps)

    @property
    def task_name(self) -> str:
        """`gr THEN asr`."""
        return " THEN ".join(step.mask.task_name for step in self.steps)

    @property
    def mode(self) -> str:
        """`plan`."""
        return "plan"

    def explain(self) -> list[str]:
        """A line a step."""
        return describe_steps(self.steps)


@dataclass(frozen=True)
class Prompt(RouteBase):
    """No mask: the model is told what to do, or nothing.

    Attributes:
        text: what it is told; empty for the unprompted model.
    """

    text: str = ""

    @property
    def mode(self) -> str:
        """`prompt`, or `unprompted`."""
        return "prompt" if self.text else "unprompted"

    def explain(self) -> list[str]:
        """What the model is told."""
        return [f"no mask; the model is told {self.text!r}" if self.text else "no mask and no prompt"]


Route = ByMask | Parallel | Plan | Prompt


def _is_text(text: str) -> bool:
    """Whether a text can be written; bytes of a command line that are no UTF-8 and half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def with_warnings(route: Route, warnings: Sequence[str]) -> Route:
    """A route that says more of itself."""
    return replace(route, warnings=(*route.warnings, *warnings)) if warnings else route


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked for, before it is known what the bank has: exactly one of the first four.

    Attributes:
        instruction: in words; a mask that does it is chosen.
        task: `gr`, `gr|asr`, `gr-asr-json`, a plan such as `gr THEN asr IF female`, or a `TaskSpec`.
        mask: a mask, its name in the bank, or its file.
        prompt: what the model is told, without a mask.
        mode: a composite by a mask of its own (one-pass) or each part by its mask (parallel); auto: one that reached its target.
        keys: what a JSON answer calls the parts of `task`.
        fallback: "prompt" gives an instruction that no mask serves to the model as it is, instead of refusing.
        predicted_bits: run the bits that are predicted for the instruction, whatever the bank has.
        format: the form that answers are put into; it counts more than what the instruction says of one.
        strict: refuse an instruction that asks for a form that answers cannot have, instead of warning.

    Raises:
        InstructionError: none or several of the four are given, one is empty, or the others do not go with it.
    """

    instruction: str | None = None
    task: str | TaskSpec | None = None
    mask: str | HeadMask | None = None
    prompt: str | None = None
    mode: str = "auto"
    keys: tuple[str, ...] = ()
    fallback: str | None = None
    predicted_bits: bool = False
    format: AnswerFormat | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        """Check that the fields go together."""
        four = {"instruction": self.instruction, "task": self.task, "mask": self.mask, "prompt": self.prompt}
        given = [name for name, value in four.items() if value is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none"
            raise InstructionError(f"pass exactly one of instruction, task, mask and prompt; got {got}")
        for name in ("instruction", "prompt"):
            if not _is_text(getattr(self, name) or ""):
                raise InstructionError(f"the {name} has bytes or half characters that are no text; write it in UTF-8")
        if self.prompt is not None and not self.prompt.strip():
            raise InstructionError("the prompt is empty; say what to do, such as 'transcribe the speech'")
        if self.mode not in ROUTE_MODES:
            raise InstructionError(f"mode {self.mode!r}: expected one of {', '.join(ROUTE_MODES)}")
        if self.fallback not in (None, "prompt"):
            raise InstructionError(f"fallback {self.fallback!r}: expected prompt")
        if self.fallback and self.instruction is None:
            raise InstructionError("fallback is for an instruction that no mask serves; there is no instruction")
        one_way = self.mask is not None or self.prompt is not None or self.is_plan
        if self.mode != "auto" and one_way:
            raise InstructionError("mode is for a composite by task or instruction; a mask, a prompt and a plan have one way")
        if self.predicted_bits and (self.instruction is None or self.mode != "auto"):
            raise InstructionError("predicted bits are those of an instruction, and leave no choice of mode")
        if self.keys and (self.task is None or self.is_plan):
            raise InstructionError("keys name the parts of a task in JSON; say which task, such as gr-asr-json")

    @property
    def is_plan(self) -> bool:
        """Whether the task is a plan."""
        return isinstance(self.task, str) and is_plan(self.task)
