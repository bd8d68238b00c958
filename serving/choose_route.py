"""From a request to its route: chosen once, from what the bank has."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from ..data.tasks import Task, TaskSpec, parse_task
from ..errors import BankError, DataError, InstructionError, MaskError
from ..lalm.identity import Identity
from ..mask_bank.bank import MaskBank, open_mask
from ..mask_bank.files import StoredMask
from ..mask_bank.mask import HeadMask
from .plan import is_plan, parse_plan, resolve_plan
from .routing import ByMask, Parallel, Plan, Prompt, Request, Route, RouteMode

if TYPE_CHECKING:
    from ..predictor.route import InstructionRoute

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
        understood = read(request.instruction, request.predicted_bits)
        if request.strict:
            understood.require_all()
        return route_instruction(understood, bank, model, known, cast(RouteMode, request.mode))
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


def route_instruction(
    read: "InstructionRoute", bank: MaskBank, model: Identity, known: Mapping[str, Task], mode: RouteMode = "auto"
) -> Route:
    """The route of an instruction that was read: a task, or a plan."""
    answer_format, warnings = read.answer_format or None, read.warnings
    said: dict[str, Any] = {"instruction": read.instruction, "confidence": read.confidence_total, "answer_format": answer_format}
    if read.plan:
        return replace(route_task(read.plan, bank, model, known), warnings=warnings, **said)
    if read.without_mask:
        bank.for_task(parse_task(read.without_mask, known), model)  # says which models the bank has it for
    task = read.spec_or_raise()
    if read.how == "bits" and read.mask is not None:
        read.mask.require(model)
        route: Route = ByMask(read.mask, "predicted bits", task)
    else:
        route = route_spec(task, bank, model, mode)
    return replace(route, warnings=(*route.warnings, *warnings), **said)


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
