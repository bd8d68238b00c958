"""What to do about an instruction: run a mask, several, or refuse and say what is near."""

from dataclasses import dataclass
from typing import Any, Literal

from ..data.answer_format import AnswerFormat
from ..data.tasks import TaskSpec
from ..errors import InstructionError
from ..mask_bank.files import StoredMask
from ..mask_bank.mask import HeadMask
from .intent import Intent

Kind = Literal["mask", "composite", "plan", "refuse"]
How = Literal["one-pass", "parallel", "bits"]


@dataclass(frozen=True)
class Neighbour:
    """A task that is near an instruction.

    Attributes:
        task: its name.
        prob: how likely it is part of what was asked for.
        example: a wording of it, the nearest one there is.
    """

    task: str
    prob: float
    example: str


@dataclass(frozen=True)
class InstructionRoute:
    """What an instruction comes to.

    Attributes:
        instruction: what was said.
        kind: "mask" for one task, "composite" for several in one answer, "plan" for some under a condition, "refuse" where no
            task serves.
        intent: the tasks, their order and their form; of a refusal empty.
        confidence: the probability that a task serves it; that of a refusal is below the line, or it is unclear what is meant.
        intent_prob: of the likeliest intent among those that can be served.
        neighbours: the two nearest tasks.
        spec: what is to be done, with the keys that the user named for JSON; None of a plan and of a refusal.
        how: in "one-pass" by a mask of the bank, by the parts' masks in "parallel" rows, or by the predicted "bits".
        mask: the mask to run, of the bank or predicted; None where there are several, or none.
        plan: a plan, such as `gr THEN asr IF female`; empty of others.
        answer_format: the form that was asked for.
        warnings: what of it cannot be had.
        without_mask: of a refusal, the task that is clearly meant and has no mask for this model; empty where there is none.
    """

    instruction: str
    kind: Kind
    intent: Intent
    confidence: float
    intent_prob: float
    neighbours: tuple[Neighbour, ...] = ()
    spec: TaskSpec | None = None
    how: How | None = None
    mask: HeadMask | None = None
    plan: str = ""
    answer_format: AnswerFormat = AnswerFormat()
    warnings: tuple[str, ...] = ()
    without_mask: str = ""

    @property
    def confidence_total(self) -> float:
        """The probability that this is what was asked for."""
        return self.confidence * self.intent_prob

    def spec_or_raise(self) -> TaskSpec:
        """What is to be done.

        Raises:
            InstructionError: nothing, since the instruction is empty or no task serves it; the two nearest are named. Or it is a
                plan, which is more than one task.
        """
        if self.spec is not None:
            return self.spec
        if self.plan:
            raise InstructionError(f"{self.instruction.strip()!r} is a plan, not one task; run it with --task '{self.plan}'")
        if not self.instruction.strip():
            raise InstructionError("the instruction is empty; say what to do, such as \"what's the speaker's gender\"")
        near = " and ".join(f"{each.task} ({each.example!r})" for each in self.neighbours) or "none"
        raise InstructionError(
            f"no mask serves the instruction {self.instruction.strip()!r}; the nearest tasks are {near}; "
            "say it like one of these, name one with --task, or see 'amask bank list'"
        )

    def require_all(self) -> None:
        """See to it that all that was asked for can be had, as `--strict` wants it.

        Raises:
            InstructionError: some of it cannot; the message names it.
        """
        if self.warnings:
            raise InstructionError(
                f"{self.instruction.strip()!r}: {'; '.join(self.warnings)}; say it without, or leave --strict out"
            )

    def as_row(self) -> dict[str, Any]:
        """The route as JSON has it."""
        return {
            "instruction": self.instruction,
            "decision": self.kind,
            "task": self.plan or str(self.intent) or None,
            "confidence": round(self.confidence, 4),
            "intent_prob": round(self.intent_prob, 4),
            "heads_on": self.mask.heads_on if self.mask else None,
            "how": self.how,
            "mask": self.mask.spec if isinstance(self.mask, StoredMask) else None,
            "format": self.answer_format.as_dict(),
            "warnings": list(self.warnings),
            "neighbours": [{"task": n.task, "prob": round(n.prob, 4), "example": n.example} for n in self.neighbours],
        }
