"""How likely a model finds right answers: losses to train masks by, and margins to judge them."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .allowed_tokens import allowed_by_row
from .answer_tree import AnswerTree, additive
from .batching import AudioFeatures, answer_spans, pad_rows
from .constrained_decoding import Constraint
from .gating import GatesLike, gated
from .prompting import PromptedModel

Prompts = str | Sequence[str] | None
"""What rows are asked: one prompt for all, one a row, or none."""
WHOLE_WINDOW = 2**15  # positions; no prompt is longer than such a sliding window
ANY_MASK = {"sdpa", "eager", "amask_sdpa", "amask_eager"}
"""Implementations of attention that take masks of any shape."""


def token_losses(
    logits: Float[Tensor, "token vocabulary"],
    ids: Int[Tensor, " token"],
    real: Bool[Tensor, "row longest"],
    allowed: Bool[Tensor, "row longest vocabulary"] | None = None,
) -> Float[Tensor, "row longest"]:
    """Cross-entropy of each token of some answers (`ScoringModel.answered`), among those that are allowed there; 0 in padding."""
    if allowed is not None:
        logits = logits.masked_fill(~allowed.to(logits.device)[real], -torch.inf)
    losses = logits.new_zeros(real.shape)
    losses[real] = nn.functional.cross_entropy(logits, ids, reduction="none")
    return losses


class ScoringModel(PromptedModel):
    """A model that scores given answers; attributes as of `LALM`."""

    can_score = True  # whether it is known how likely the model finds a given answer

    def token_losses(
        self,
        features: AudioFeatures,
        targets: Sequence[str],
        gates: GatesLike = None,
        prompts: Prompts = None,
        allowed: Bool[Tensor, "row token vocabulary"] | None = None,
    ) -> tuple[Float[Tensor, "row token"], Bool[Tensor, "row token"]]:
        """Next-token cross-entropy of each target token, the end token included.

        Args:
            features: encoded audio, one row a target.
            targets: the right answers.
            gates: head gates; differentiable.
            prompts: for all rows or for each; none by default, as masks are trained and used.
            allowed: tokens that each place is held to, as `allowed_tokens` gives them; all by default.

        Returns:
            Losses, padded with zeros, and where they are real.
        """
        logits, ids, real = self.answered(features, targets, gates, prompts)
        return token_losses(logits, ids, real, allowed), real

    def token_margins(
        self,
        features: AudioFeatures,
        targets: Sequence[str],
        gates: GatesLike = None,
        prompts: Prompts = None,
    ) -> tuple[Float[Tensor, "row token"], Bool[Tensor, "row token"]]:
        """By how much each target token's logit is above that of the likeliest other token; arguments as for `token_losses`.

        Greedy search gives exactly the target where all of a row's margins are above 0.

        Returns:
            Margins, padded with infinity, and where they are real.
        """
        logits, ids, real = self.answered(features, targets, gates, prompts)
        (best, second), likeliest = logits.topk(2).values.unbind(-1), logits.argmax(-1)
        own = logits.gather(-1, ids[:, None])[:, 0]
        margins = logits.new_full(real.shape, torch.inf)
        margins[real] = own - torch.where(likeliest == ids, second, best)
        return margins, real

    def answered(
        self, features: AudioFeatures, targets: Sequence[str], gates: GatesLike = None, prompts: Prompts = None
    ) -> tuple[Float[Tensor, "token vocabulary"], Int[Tensor, " token"], Bool[Tensor, "row longest"]]:
        """Logits and ids of all targets' tokens, ends included, one target after the other; and where a row has them."""
        answers = [self.answer_ids(target) for target in targets]
        fitting, words = self.checked_gates(features, gates), self.prompts_by_row(features, prompts)
        with self.exclusive, gated(self.sites, fitting):
            logits = self._answer_logits(features, answers, words)
        lengths = torch.tensor([len(answer) for answer in answers], device=logits.device)
        real = torch.arange(int(lengths.max()), device=logits.device) < lengths[:, None]
        return logits.to(torch.promote_types(logits.dtype, torch.float32)), torch.cat(answers).to(logits.device), real

    def allowed_tokens(
        self, targets: Sequence[str], constraints: Sequence[Constraint | None]
    ) -> Bool[Tensor, "row token vocabulary"]:
        """The tokens that each place of some answers is held to, ends included; see `allowed_tokens.allowed_by_row`.

        Args:
            targets: the answers.
            constraints: one a row; None for none.
        """
        answers = [self.answer_ids(target).tolist() for target in targets]
        width = self.model.get_output_embeddings().weight.shape[0]
        return allowed_by_row(self.tokenizer, constraints, answers, width, self.end_tokens)

    def answer_ids(self, text: str) -> Int[Tensor, " token"]:
        """An answer's tokens, its end included."""
        return torch.cat([self._ids(text), torch.tensor([self.end_token], device=self.device)])

    @property
    def scores_in_one_pass(self) -> bool:
        """Whether attention takes masks of any shape, so that several answers can stand behind one prompt."""
        config = getattr(self.decoder, "config", None)
        kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
        window = getattr(config, "sliding_window", None) or WHOLE_WINDOW
        whole = kinds == {"full_attention"} and (window >= WHOLE_WINDOW or bool(getattr(config, "layer_types", None)))
        return whole and getattr(config, "_attn_implementation", "") in ANY_MASK

    def score_answers(
        self, features: AudioFeatures, answers: Sequence[Int[Tensor, " _"]], prompts: Sequence[str]
    ) -> Float[Tensor, "row answer"]:
        """The logarithm of the probability of each of some answers, in one pass where `scores_in_one_pass`.

        Args:
            features: encoded audio.
            answers: token ids with their ends, as `answer_ids` gives them; the same for all rows.
            prompts: of each row.
        """
        if self.scores_in_one_pass:
            return self._score_tree(features, answers, prompts)
        found = []
        for answer in answers:
            logits = self._answer_logits(features, [answer] * len(features), prompts)
            logs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
            ids = answer.to(logs.device).repeat(len(features))
            found.append(logs.gather(1, ids[:, None]).view(len(features), -1).sum(1))
        return torch.stack(found, 1)

    def _score_tree(
        self, features: AudioFeatures, answers: Sequence[Tensor], prompts: Sequence[str]
    ) -> Float[Tensor, "row answer"]:
        tree = AnswerTree.of(answers)
        contexts = self._contexts(features, prompts)
        nodes = self.model.get_input_embeddings()(tree.tokens)
        embeds, _ = pad_rows([torch.cat([context, nodes]) for context in contexts], "right")
        lengths = torch.tensor([len(context) for context in contexts], device=embeds.device)
        states = self._states(features, embeds, *tree.layout(lengths))
        head = self.model.get_output_embeddings()
        # Row by row, since the logits of many answers over a large vocabulary are many.
        rows = tree.predictors(states, lengths)
        return torch.stack([tree.log_probabilities(answers, head(row[None])[0]) for row in rows])

    def _answer_logits(
        self, features: AudioFeatures, answers: Sequence[Tensor], prompts: Sequence[str]
    ) -> Float[Tensor, "token vocabulary"]:
        """Logits of every answer's tokens given those before it, one answer after the other."""
        contexts = self._contexts(features, prompts)
        embed = self.model.get_input_embeddings()
        rows = [torch.cat([context, embed(answer[:-1])]) for context, answer in zip(contexts, answers, strict=True)]
        embeds, _ = pad_rows(rows, "right")  # causal attention never sees padding on the right
        return self.model.get_output_embeddings()(answer_spans(self._states(features, embeds), rows, answers))

    def _contexts(self, features: AudioFeatures, prompts: Sequence[str]) -> list[Tensor]:
        """Embeddings of what `_states` needs of each row's prompt."""
        return self._prompt_embeds(features, prompts)

    def _states(
        self,
        features: AudioFeatures,
        embeds: Float[Tensor, "row position width"],
        positions: Int[Tensor, "row position"] | None = None,
        seen: Bool[Tensor, "row query key"] | None = None,
    ) -> Float[Tensor, "row position width"]:
        """Last states of rows padded on the right.

        Args:
            features: encoded audio.
            embeds: of each row's context and what stands behind it.
            positions: of these; in order by default.
            seen: which of them each one attends to; those before it by default.
        """
        how = {} if seen is None else {"attention_mask": additive(seen, embeds.dtype), "position_ids": positions}
        return self.decoder(inputs_embeds=embeds, use_cache=False, **how).last_hidden_state

    def loss(
        self,
        features: AudioFeatures,
        targets: Sequence[str],
        gates: GatesLike = None,
        prompts: Prompts = None,
    ) -> Float[Tensor, ""]:
        """Mean next-token cross-entropy over all target tokens of the batch (AHAMask, section 3)."""
        losses, real = self.token_losses(features, targets, gates, prompts)
        return losses.sum() / real.sum()
