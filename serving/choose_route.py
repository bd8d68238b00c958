"""From a request to its route: chosen once, from what the bank has."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class RouteChooser:
    """Chooses routes for one model.

    Attributes:
        bank: the masks.
        model: what they must be for.
        tasks: all single tasks by name.
    """

    bank: MaskBank
    model: Identity
    tasks: Mapping[str, Task]

    def choose(self, request: Request, read: ReadInstruction) -> Route:
        """The route of a request.

        Args:
            request: what is asked for.
            read: reads an instruction.

        Raises:
            InstructionError: no mask serves the instruction.
            BankError: there is no mask for it.
            MaskError: a mask is for another model, or a plan cannot be read.
            DataError: a task is unknown.
        """
        route = self._choose(request, read)
        return replace(route, answer_format=request.format) if request.format else route

    def _choose(self, request: Request, read: ReadInstruction) -> Route:
        mode = cast(RouteMode, request.mode)
        if request.prompt is not None:
            return Prompt(text=request.prompt.strip())
        if request.mask is not None:
            return self._by_given_mask(request.mask)
        if request.instruction is None:
            check_masks(self.bank, self.model)
            return self._route_task(cast("str | TaskSpec", request.task), mode, request.keys)
        try:
            understood = read(request.instruction, request.predicted_bits)
            if request.strict:
                understood.require_all()
            return self.route_read(understood, mode)
        except (InstructionError, BankError, MaskError) as error:
            if request.fallback is None or not request.instruction.strip():
                raise
            told = f"{error}; prompting the model with it instead"
            return Prompt(text=request.instruction.strip(), instruction=request.instruction, warnings=(told,))

    def _by_given_mask(self, mask: str | HeadMask) -> ByMask:
        found = open_mask(mask, self.bank, self.model) if isinstance(mask, str) else mask
        found.require(self.model)
        return ByMask(found, found.called, found.task)

    def route_read(self, read: "InstructionRoute", mode: RouteMode = "auto") -> Route:
        """The route of an instruction that was read: a task, or a plan; raises as `choose`."""
        answer_format, warnings = read.answer_format or None, read.warnings
        said: dict[str, Any] = {
            "instruction": read.instruction,
            "confidence": read.confidence_total,
            "answer_format": answer_format,
        }
        if read.plan:
            return replace(self._route_task(read.plan), warnings=warnings, **said)
        if read.without_mask:
            self._mask_for(parse_task(read.without_mask, self.tasks))  # says which models the bank has it for
        task = read.spec_or_raise()
        if read.how == "bits" and read.mask is not None:
            read.mask.require(self.model)
            route: Route = ByMask(read.mask, "predicted bits", task)
        else:
            route = self.route_spec(task, mode)
        return replace(route, warnings=(*route.warnings, *warnings), **said)

    def _route_task(self, task: str | TaskSpec, mode: RouteMode = "auto", keys: tuple[str, ...] = ()) -> Route:
        """The route of a task or a plan."""
        if isinstance(task, TaskSpec):
            return self.route_spec(task, mode)
        if is_plan(task):
            return Plan(resolve_plan(parse_plan(task), self._lookup_step))
        return self.route_spec(parse_task(task, self.tasks, keys), mode)

    def _lookup_step(self, name: str) -> StoredMask:
        """The mask of a plan's step: a step is a task, or else a mask's name."""
        try:
            task = parse_task(name, self.tasks)
        except DataError as unknown:
            try:
                return self.bank.get(name, self.model)
            except BankError as error:
                raise BankError(f"{unknown}; {error}") from None
        return self._mask_for(task)

    def _mask_for(self, task: TaskSpec) -> StoredMask:
        return self.bank.for_task(task, self.model)

    def route_spec(self, task: TaskSpec, mode: RouteMode = "auto") -> ByMask | Parallel:
        """Choose how a task is done: in one pass where a mask reached its target, else in parallel.

        Raises:
            BankError: there are no masks for it, or none for that mode.
            MaskError: there are some, but not for this model.
        """
        if task.form == "plain":
            if mode == "parallel":
                raise BankError(f"{task.name} is one task, which has no parts to be done in parallel; leave mode out")
            return _one_pass(self._mask_for(task), task)
        whole = self._one_pass_mask(task)
        if mode == "one-pass":
            if whole is None:
                raise _keys_error(task, self._mask_for(task))  # or its own error, where no mask does the task at all
            return _one_pass(whole, task)
        if mode == "auto" and whole is not None and whole.reached_target:
            return _one_pass(whole, task, f"{task.name} in one pass by {whole.spec}, which reached its target")
        try:
            parts = tuple(self._mask_for(TaskSpec(parts=(part,))) for part in task.parts)
        except (BankError, MaskError) as error:
            if mode == "parallel" or whole is None:
                raise
            return _one_pass(
                whole, task, f"{task.name} in one pass by {whole.spec}, since it cannot be done in parallel: {error}"
            )
        reason = ""
        if mode == "auto":
            called = ", ".join(part.spec for part in parts)
            why = "no mask does it in one pass" if whole is None else f"{whole.spec} {_distrust_reason(whole)}"
            reason = f"{task.name} in parallel by {called}, since {why}; see 'amask compose --help'"
        return Parallel(task, parts, tuple(part.spec for part in parts), reason=reason)

    def _one_pass_mask(self, task: TaskSpec) -> StoredMask | None:
        """The mask that does a composite with these keys: one that reached its target where there is one, defaults first.

        Of masks that are alike the newest counts, which knows the newest of them.
        """
        preferred = self.bank.defaults()
        fitting = [
            stored
            for stored in self.bank.list()
            if stored.task is not None
            and (stored.task_name, stored.task.json_keys) == (task.name, task.json_keys)
            and stored.identity.same(self.model)
        ]
        newest = {stored.digest: stored for stored in sorted(fitting, key=lambda stored: stored.version)}

        def rank(stored: StoredMask) -> tuple[bool, bool, int]:
            return stored.reached_target is not True, stored.spec not in preferred, -stored.version

        return min(newest.values(), key=rank, default=None)


def check_masks(bank: MaskBank, model: Identity) -> None:
    """Whether a bank has any mask for a model.

    Raises:
        BankError: it has none.
    """
    if not any(stored.identity.same(model) for stored in bank.list()):
        command = f"amask bank train gr --model {model.name} --data CLIPS"
        raise BankError(f"the bank has no mask for {model.name}; train one: {command}")


def _one_pass(mask: StoredMask, task: TaskSpec, reason: str = "") -> ByMask:
    return ByMask(mask, mask.spec, task, reason=reason)


def _keys_error(task: TaskSpec, other: StoredMask) -> BankError:
    wanted, there = (", ".join(each.json_keys) if each else "" for each in (task, other.task))
    return BankError(
        f"no mask does {task.name} with the keys {wanted}; {other.spec} has {there}: pass these keys, or drop the mode"
    )


def _distrust_reason(mask: StoredMask) -> str:
    return "was never measured against a target" if mask.reached_target is None else "did not reach its target"
