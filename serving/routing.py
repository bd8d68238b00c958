"""The two ways to do a composite task: in one pass by a mask of its own, or each part by its mask on rows of one batch."""

from dataclasses import dataclass
from typing import Literal

from ..data.tasks import TaskSpec
from ..errors import BankError, MaskError
from ..lalm.identity import Identified, Identity, identity_of
from ..mask_bank.bank import MaskBank
from ..mask_bank.files import StoredMask

How = Literal["auto", "one-pass", "parallel"]
WAYS: tuple[How, ...] = ("auto", "one-pass", "parallel")


@dataclass(frozen=True)
class Way:
    """How a task is done.

    Attributes:
        how: "one-pass" or "parallel".
        masks: one, or each part's in the order of the answer.
        why: a sentence on the choice; empty where there was none.
    """

    how: Literal["one-pass", "parallel"]
    masks: tuple[StoredMask, ...]
    why: str = ""


def find_way(bank: MaskBank, task: TaskSpec, model: Identity | Identified, how: How = "auto") -> Way:
    """Choose how a task is done: in one pass where a mask reached its target, else in parallel.

    Args:
        bank: the masks.
        task: the task.
        model: what they must be for.
        how: "auto" chooses; the others insist.

    Raises:
        BankError: there are no masks for it, or none for that way.
        MaskError: there are some, but not for this model.
    """
    if task.form == "plain":
        if how == "parallel":
            raise BankError(f"{task.name} is one task, which has no parts to be done in parallel; leave --how out")
        return Way("one-pass", (bank.for_task(task, model),))
    whole = _whole(bank, task, model)
    if how == "one-pass" and whole is None:
        raise _other_keys(task, bank.for_task(task, model))  # or its own error, where no mask does the task at all
    if how == "one-pass" and whole is not None:
        return Way("one-pass", (whole,))
    if how == "auto" and whole is not None and whole.reached_target:
        return Way("one-pass", (whole,), f"{task.name} in one pass by {whole.spec}, which reached its target")
    try:
        parts = tuple(bank.for_task(TaskSpec(parts=(part,)), model) for part in task.parts)
    except (BankError, MaskError) as error:
        if how == "parallel" or whole is None:
            raise
        return Way("one-pass", (whole,), f"{task.name} in one pass by {whole.spec}, since it cannot be done in parallel: {error}")
    if how == "parallel":
        return Way("parallel", parts)
    called = ", ".join(part.spec for part in parts)
    reason = "no mask does it in one pass" if whole is None else f"{whole.spec} {_doubt(whole)}"
    return Way("parallel", parts, f"{task.name} in parallel by {called}, since {reason}; see 'amask compose --help'")


def _other_keys(task: TaskSpec, other: StoredMask) -> BankError:
    wanted, there = (", ".join(each.json_keys) if each else "" for each in (task, other.task))
    return BankError(f"no mask does {task.name} with the keys {wanted}; {other.spec} has {there}: say --keys, or leave --how out")


def _doubt(mask: StoredMask) -> str:
    return "was never measured against a target" if mask.reached_target is None else "did not reach its target"


def _whole(bank: MaskBank, task: TaskSpec, model: Identity | Identified) -> StoredMask | None:
    """The mask that does a composite with these keys: one that reached its target where there is one, defaults first.

    Of masks that are alike the newest counts, which knows the newest of them.
    """
    identity, preferred = identity_of(model), bank.defaults()
    fitting = [
        stored
        for stored in bank.list()
        if stored.task is not None
        and (stored.task_name, stored.task.json_keys) == (task.name, task.json_keys)
        and stored.identity.same(identity)
    ]
    newest = {stored.digest: stored for stored in sorted(fitting, key=lambda stored: stored.version)}

    def rank(stored: StoredMask) -> tuple[bool, bool, int]:
        return stored.reached_target is not True, stored.spec not in preferred, -stored.version

    return min(newest.values(), key=rank, default=None)
