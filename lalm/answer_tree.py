"""Several answers behind one prompt, scored in one pass.

Behind a row's prompt stand the tokens of every answer, each of which attends to the prompt and to its own answer only, at
the position that it would have alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class AnswerTree:
    """Several answers as branches behind one prompt.

    Attributes:
        tokens: all answers' tokens but each one's last, which predicts nothing that is asked for.
        owners: which answer each of them belongs to.
        depths: its place in its answer.
    """

    tokens: Int[Tensor, " node"]
    owners: Int[Tensor, " node"]
    depths: Int[Tensor, " node"]

    @classmethod
    def of(cls, answers: Sequence[Int[Tensor, " _"]]) -> "AnswerTree":
        """The tree of some answers, given as token ids with their ends."""
        inner = [answer[:-1] for answer in answers]
        owners = [torch.full_like(tokens, at) for at, tokens in enumerate(inner)]
        depths = [torch.arange(len(tokens), device=tokens.device) for tokens in inner]
        return cls(torch.cat(inner), torch.cat(owners), torch.cat(depths))

    def layout(self, prompts: Int[Tensor, " row"]) -> tuple[Int[Tensor, "row position"], Bool[Tensor, "row query key"]]:
        """Positions, and what attends to what, of rows that hold a prompt and then the tree, padded on the right.

        Args:
            prompts: positions of each row's prompt.
        """
        nodes = len(self.tokens)
        at = torch.arange(int(prompts.max()) + nodes, device=self.tokens.device)
        node = at[None] - prompts[:, None]  # which node stands there; below 0 in the prompt, too large in the padding
        inside = (node >= 0) & (node < nodes)
        owners, depths = torch.full_like(node, -1), node.clamp(min=0)
        if nodes:
            owners = torch.where(inside, self.owners[node.clamp(0, nodes - 1)], owners)
            depths = torch.where(inside, self.depths[node.clamp(0, nodes - 1)], depths)
        positions = torch.where(node < 0, at[None], prompts[:, None] + depths)
        same = (owners[:, :, None] == owners[:, None, :]) & inside[:, None]
        padding = (node >= nodes)[:, :, None] & (node >= nodes)[:, None]
        seen = (node < 0)[:, None] | same | padding
        return positions, seen & (at[:, None] >= at[None])[None]

    def predictors(self, states: Float[Tensor, "row position width"], prompts: Int[Tensor, " row"]) -> Tensor:
        """Of each row's states, those at its prompt's last position and then at each node."""
        at = prompts[:, None] - 1 + torch.arange(len(self.tokens) + 1, device=prompts.device)
        rows = torch.arange(len(states), device=states.device)
        return states[rows[:, None], at.to(states.device)]

    def log_probabilities(
        self, answers: Sequence[Int[Tensor, " _"]], logits: Float[Tensor, "predictor vocabulary"]
    ) -> Float[Tensor, " answer"]:
        """The logarithm of each answer's probability in one row.

        Args:
            answers: as given to `of`.
            logits: what the prompt's last position predicts, and then what each node does.
        """
        logs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
        found, node = [], 1
        for answer in answers:
            predictors = [0, *range(node, node + len(answer) - 1)]
            node += len(answer) - 1
            found.append(logs[predictors, answer.to(logs.device)].sum())
        return torch.stack(found)


def additive(seen: Bool[Tensor, "row query key"], dtype: torch.dtype) -> Float[Tensor, "row 1 query key"]:
    """An attention mask as every implementation adds it to the scores: 0 where a position is seen, else very low."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)[:, None]
