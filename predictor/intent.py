"""Intents: which tasks an instruction asks for, in which order and form, or none; and how likely each of them is.

The network scores each place of the answer by itself. Here these scores become probabilities of *possible* intents:
no part twice, no gap before a part, one part is plain, several are joined by bars or are JSON.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from itertools import permutations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..data.tasks import Form

SLOTS = 3  # parts that an answer may have
FORMS: tuple[Form, ...] = ("pipe", "json")
NETWORK_WEIGHT = 0.6  # the network's weight beside the n-grams on which task it is: on dev it is overconfident


@dataclass(frozen=True)
class Intent:
    """What an instruction asks for.

    Attributes:
        parts: names of tasks in the order of the answer; empty where no task serves.
        form: "plain" for one part or none, else "pipe" or "json".
    """

    parts: tuple[str, ...] = ()
    form: Form = "plain"

    def __str__(self) -> str:
        """`gr`, `gr|asr`, `{asr,gr}`; nothing where no task serves."""
        return f"{{{','.join(self.parts)}}}" if self.form == "json" else "|".join(self.parts)


UNSUPPORTED = Intent()


@dataclass(frozen=True)
class IntentScores:
    """The network's scores of some instructions.

    Attributes:
        part: of each task at each place of the answer; the last column is "no part here".
        form: of pipe and JSON, where there are several parts.
        unsupported: that no task serves.
    """

    part: Float[Tensor, "row slot choice"]
    form: Float[Tensor, "row form"]
    unsupported: Float[Tensor, " row"]


@dataclass(frozen=True)
class IntentSpace:
    """All intents of some tasks. The last one is that no task serves.

    Attributes:
        intents: all of them.
        slots: each intent's choice for each place; of the last intent all are "no part".
        form: 0 pipe, 1 JSON, 2 neither.
    """

    intents: tuple[Intent, ...]
    slots: Int[Tensor, "intent slot"]
    form: Int[Tensor, " intent"]

    def index(self, intent: Intent) -> int:
        """An intent's number."""
        return _numbers(self.intents)[intent]

    def log_probs(self, scores: IntentScores) -> Float[Tensor, "row intent"]:
        """The log-probability of each intent; a row's probabilities add up to 1."""
        p_supported = self._joint(scores).log_softmax(-1) + torch.nn.functional.logsigmoid(-scores.unsupported)[:, None]
        return torch.cat([p_supported, torch.nn.functional.logsigmoid(scores.unsupported)[:, None]], 1)

    def probs(self, scores: IntentScores, single_task_logits: Float[Tensor, "row task"]) -> Float[Tensor, "row intent"]:
        """The probability of each intent, with the n-grams' vote on which task it is, where it is one.

        How likely it is that one task alone is asked for stays the same. In training the n-grams have no vote: a network that
        can lean on them reads worse by itself.

        Args:
            scores: the network's.
            single_task_logits: of the n-grams, for each task.
        """
        unsupported = scores.unsupported.sigmoid()[:, None]
        joint = self._joint(scores)
        one, several = joint.split(
            [single_task_logits.shape[1], joint.shape[1] - single_task_logits.shape[1]], 1
        )  # intents of one task come first
        which = (NETWORK_WEIGHT * one.log_softmax(1) + single_task_logits.log_softmax(1)).log_softmax(1)
        one = which + one.logsumexp(1, keepdim=True)
        return torch.cat([torch.cat([one, several], 1).softmax(-1) * (1 - unsupported), unsupported], 1)

    def _joint(self, scores: IntentScores) -> Float[Tensor, "row served"]:
        """Scores of the intents that tasks serve, up to a number that all of a row share: sums over places and form."""
        form = scores.form.log_softmax(-1)
        found = torch.cat([scores.part.flatten(1), form, form.new_zeros(len(form), 1)], 1)
        return found.index_select(1, self.summed).view(len(found), SLOTS + 1, -1).sum(1)

    @cached_property
    def summed(self) -> Int[Tensor, " term"]:
        """Where the terms of each supported intent stand among all scores: an intent without a form has 0 for it."""
        count = len({intent.parts for intent in self.intents if len(intent.parts) == 1}) + 1
        with torch.inference_mode(False):  # it is kept, and a training may come after
            places = [self.slots[:-1, slot] + count * slot for slot in range(SLOTS)]
            return torch.cat([*places, self.form[:-1] + count * SLOTS])

    def task_marginals(self, probs: Float[Tensor, " intent"]) -> dict[str, float]:
        """How likely each task is a part of what was asked for."""
        tasks = [intent.parts[0] for intent in self.intents if len(intent.parts) == 1]
        has = torch.zeros(len(self.intents), len(tasks) + 1).scatter_(1, self.slots, 1.0)
        return dict(zip(tasks, (probs @ has).tolist()[:-1], strict=True))


@cache
def _numbers(intents: tuple[Intent, ...]) -> dict[Intent, int]:
    return {intent: at for at, intent in enumerate(intents)}


@cache
def intent_space(parts: tuple[str, ...]) -> IntentSpace:
    """All intents of some tasks."""
    intents = [Intent((part,)) for part in parts]
    intents += [Intent(chosen, form) for n in range(2, SLOTS + 1) for form in FORMS for chosen in permutations(parts, n)]
    intents.append(UNSUPPORTED)
    number = {part: at for at, part in enumerate(parts)}
    slots = [[number[part] for part in r.parts] + [len(parts)] * (SLOTS - len(r.parts)) for r in intents]
    form = [FORMS.index(r.form) if r.form in FORMS else len(FORMS) for r in intents]
    return IntentSpace(tuple(intents), torch.tensor(slots), torch.tensor(form))
