"""From a request to its route: chosen once, shown, run.

A request is an instruction in words, a task, a mask or a prompt. Its route says which masks do it: one (`ByMask`), each
part's own on rows of one batch (`Parallel`), one after the other under conditions (`Plan`), or none, by a prompt (`Prompt`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

from ..data.answer_format import AnswerFormat
from ..data.tasks import Task, TaskSpec, parse_task
from ..errors import BankError, DataError, InstructionError, MaskError
from ..lalm.identity import Identity
from ..mask_bank.bank import MaskBank, open_mask
from ..mask_bank.files import StoredMask
from ..mask_bank.mask import HeadMask
from .plan import PlanStep, describe_steps, is_plan, parse_plan, resolve_plan

if TYPE_CHECKING:
    from ..predictor.route import InstructionRoute

RouteMode = Literal["auto", "one-pass", "parallel"]
ROUTE_MODES: tuple[RouteMode, ...] = ("auto", "one-pass", "parallel")


@dataclass(frozen=True, kw_only=True)
class RouteBase:
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
    def mode(self) -> str:
        """`one-pass`, `parallel`, `plan`, `prompt` or `unprompted`."""
        raise NotImplementedError

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

    def __post_init__(self) -> None:
        """Check that the fields go together."""
        four = {"instruction": self.instruction, "task": self.task, "mask": self.mask, "prompt": self.prompt}
        given = [name for name, value in four.items() if value is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none"
            raise InstructionError(f"pass exactly one of instruction, task, mask and prompt; got {got}")
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


ReadInstruction = Callable[[str, bool], "InstructionRoute"]
"""(instruction, whether its bits are wanted) → what the predictor makes of it."""


def choose_route(request: Request, bank: MaskBank, model: Identity, read: ReadInstruction, known: Mapping[str, Task]) -> Route:
    """Choose the route of a request.

    Args:
        request: what is asked for.
        bank: the masks.
        model: what they must be for.
        read: reads an instruction.
        known: single tasks by name.

    Raises:
        InstructionError: no mask serves the instruction.
        BankError: there is no mask for it.
        MaskError: a mask is for another model, or a plan cannot be read.
        DataError: a task is unknown.
    """
    route = _choose(request, bank, model, read, known)
    return replace(route, answer_format=request.format) if request.format else route


def _choose(request: Request, bank: MaskBank, model: Identity, read: ReadInstruction, known: Mapping[str, Task]) -> Route:
    if request.prompt is not None:
        return Prompt(text=request.prompt.strip())
    if request.mask is not None:
        return _by_given_mask(request.mask, bank, model)
    if request.instruction is None:
        check_masks(bank, model)
        return route_task(cast("str | TaskSpec", request.task), bank, model, known, cast(RouteMode, request.mode), request.keys)
    try:
        return route_instruction(read(request.instruction, request.predicted_bits), bank, model, cast(RouteMode, request.mode))
    except (InstructionError, BankError, MaskError) as error:
        if request.fallback is None or not request.instruction.strip():
            raise
        told = f"{error}; prompting the model with it instead"
        return Prompt(text=request.instruction.strip(), instruction=request.instruction, warnings=(told,))


def check_masks(bank: MaskBank, model: Identity) -> None:
    """Whether a bank has any mask for a model.

    Raises:
        BankError: it has none.
    """
    if not any(stored.identity.same(model) for stored in bank.list()):
        command = f"amask bank train gr --model {model.name} --data CLIPS"
        raise BankError(f"the bank has no mask for {model.name}; train one: {command}")


def _by_given_mask(mask: str | HeadMask, bank: MaskBank, model: Identity) -> ByMask:
    found = open_mask(mask, bank, model) if isinstance(mask, str) else mask
    found.require(model)
    return ByMask(found, found.called, found.task)


def route_instruction(read: "InstructionRoute", bank: MaskBank, model: Identity, mode: RouteMode = "auto") -> Route:
    """The route of an instruction that was read."""
    task = read.spec_or_raise()
    if read.how == "bits" and read.mask is not None:
        read.mask.require(model)
        route: Route = ByMask(read.mask, "predicted bits", task)
    else:
        route = route_spec(task, bank, model, mode)
    answer_format = getattr(read, "answer_format", None) or None
    return replace(route, instruction=read.instruction, confidence=read.confidence_total, answer_format=answer_format)


def route_task(
    task: str | TaskSpec,
    bank: MaskBank,
    model: Identity,
    known: Mapping[str, Task],
    mode: RouteMode = "auto",
    keys: tuple[str, ...] = (),
) -> Route:
    """The route of a task or a plan."""
    if isinstance(task, TaskSpec):
        return route_spec(task, bank, model, mode)
    if is_plan(task):
        return Plan(resolve_plan(parse_plan(task), partial(_lookup_step, bank=bank, model=model, known=known)))
    return route_spec(parse_task(task, known, keys), bank, model, mode)


def _lookup_step(name: str, bank: MaskBank, model: Identity, known: Mapping[str, Task]) -> StoredMask:
    """The mask of a plan's step: a step is a task, or else a mask's name."""
    try:
        task = parse_task(name, known)
    except DataError as unknown:
        try:
            return bank.get(name, model)
        except BankError as error:
            raise BankError(f"{unknown}; {error}") from None
    return bank.for_task(task, model)


def route_spec(task: TaskSpec, bank: MaskBank, model: Identity, mode: RouteMode = "auto") -> ByMask | Parallel:
    """Choose how a task is done: in one pass where a mask reached its target, else in parallel.

    Raises:
        BankError: there are no masks for it, or none for that mode.
        MaskError: there are some, but not for this model.
    """
    if task.form == "plain":
        if mode == "parallel":
            raise BankError(f"{task.name} is one task, which has no parts to be done in parallel; leave mode out")
        return _one_pass(bank.for_task(task, model), task)
    whole = _one_pass_mask(bank, task, model)
    if mode == "one-pass":
        if whole is None:
            raise _keys_error(task, bank.for_task(task, model))  # or its own error, where no mask does the task at all
        return _one_pass(whole, task)
    if mode == "auto" and whole is not None and whole.reached_target:
        return _one_pass(whole, task, f"{task.name} in one pass by {whole.spec}, which reached its target")
    try:
        parts = tuple(bank.for_task(TaskSpec(parts=(part,)), model) for part in task.parts)
    except (BankError, MaskError) as error:
        if mode == "parallel" or whole is None:
            raise
        return _one_pass(whole, task, f"{task.name} in one pass by {whole.spec}, since it cannot be done in parallel: {error}")
    reason = ""
    if mode == "auto":
        called = ", ".join(part.spec for part in parts)
        why = "no mask does it in one pass" if whole is None else f"{whole.spec} {_distrust_reason(whole)}"
        reason = f"{task.name} in parallel by {called}, since {why}; see 'amask compose --help'"
    return Parallel(task, parts, tuple(part.spec for part in parts), reason=reason)


def _one_pass(mask: StoredMask, task: TaskSpec, reason: str = "") -> ByMask:
    return ByMask(mask, mask.spec, task, reason=reason)


def _keys_error(task: TaskSpec, other: StoredMask) -> BankError:
    wanted, there = (", ".join(each.json_keys) if each else "" for each in (task, other.task))
    return BankError(
        f"no mask does {task.name} with the keys {wanted}; {other.spec} has {there}: pass these keys, or drop the mode"
    )


def _distrust_reason(mask: StoredMask) -> str:
    return "was never measured against a target" if mask.reached_target is None else "did not reach its target"


def _one_pass_mask(bank: MaskBank, task: TaskSpec, model: Identity) -> StoredMask | None:
    """The mask that does a composite with these keys: one that reached its target where there is one, defaults first.

    Of masks that are alike the newest counts, which knows the newest of them.
    """
    preferred = bank.defaults()
    fitting = [
        stored
        for stored in bank.list()
        if stored.task is not None
        and (stored.task_name, stored.task.json_keys) == (task.name, task.json_keys)
        and stored.identity.same(model)
    ]
    newest = {stored.digest: stored for stored in sorted(fitting, key=lambda stored: stored.version)}

    def rank(stored: StoredMask) -> tuple[bool, bool, int]:
        return stored.reached_target is not True, stored.spec not in preferred, -stored.version

    return min(newest.values(), key=rank, default=None)
