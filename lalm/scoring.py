"""How likely a model finds right answers: losses to train masks by, and margins to judge them."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .batching import AudioFeatures, answer_spans, pad_rows
from .gating import gated
from .prompting import Gates, PromptedModel

Prompts = str | Sequence[str] | None
"""What rows are asked: one prompt for all, one a row, or none."""


class ScoringModel(PromptedModel):
    """A model that scores given answers; attributes as of `LALM`."""

    can_score = True  # whether it is known how likely the model finds a given answer

    def token_losses(
        self,
        features: AudioFeatures,
        targets: Sequence[str],
        gates: Gates = None,
        prompts: Prompts = None,
    ) -> tuple[Float[Tensor, "row token"], Bool[Tensor, "row token"]]:
        """Next-token cross-entropy of each target token, the end token included.

        Args:
            features: encoded audio, one row a target.
            targets: the right answers.
            gates: head gates; differentiable.
            prompts: for all rows or for each; none by default, as masks are trained and used.

        Returns:
            Losses, padded with zeros, and where they are real.
        """
        logits, ids, real = self._answered(features, targets, gates, prompts)
        losses = logits.new_zeros(real.shape)
        losses[real] = nn.functional.cross_entropy(logits, ids, reduction="none")
        return losses, real

    def token_margins(
        self,
        features: AudioFeatures,
        targets: Sequence[str],
        gates: Gates = None,
        prompts: Prompts = None,
    ) -> tuple[Float[Tensor, "row token"], Bool[Tensor, "row token"]]:
        """By how much each target token's logit is above that of the likeliest other token; arguments as for `token_losses`.

        Greedy search gives exactly the target where all of a row's margins are above 0.

        Returns:
            Margins, padded with infinity, and where they are real.
        """
        logits, ids, real = self._answered(features, targets, gates, prompts)
        (best, second), likeliest = logits.topk(2).values.unbind(-1), logits.argmax(-1)
        own = logits.gather(-1, ids[:, None])[:, 0]
        margins = logits.new_full(real.shape, torch.inf)
        margins[real] = own - torch.where(likeliest == ids, second, best)
        return margins, real

    def _answered(
        self, features: AudioFeatures, targets: Sequence[str], gates: Gates, prompts: Prompts
    ) -> tuple[Float[Tensor, "token vocabulary"], Int[Tensor, " token"], Bool[Tensor, "row longest"]]:
        """Logits and ids of all targets' tokens, ends included, one target after the other; and where a row has them."""
        self._check_gates(features, gates)
        end = torch.tensor([self.end_token], device=self.device)
        answers = [torch.cat([self._ids(target), end]) for target in targets]
        words = self._prompts_by_row(features, prompts)
        with self._exclusive, gated(self.sites, gates):
            logits = self._answer_logits(features, answers, words)
        lengths = torch.tensor([len(answer) for answer in answers], device=logits.device)
        real = torch.arange(int(lengths.max()), device=logits.device) < lengths[:, None]
        return logits.to(torch.promote_types(logits.dtype, torch.float32)), torch.cat(answers).to(logits.device), real

    def _answer_logits(
        self, features: AudioFeatures, answers: Sequence[Tensor], prompts: Sequence[str]
    ) -> Float[Tensor, "token vocabulary"]:
        """Logits of every answer's tokens given those before it, one answer after the other."""
        contexts = self._prompt_embeds(features, prompts)
        embed = self.model.get_input_embeddings()
        rows = [torch.cat([context, embed(answer[:-1])]) for context, answer in zip(contexts, answers, strict=True)]
        embeds, _ = pad_rows(rows, "right")  # causal attention never sees padding on the right
        hidden = self.decoder(inputs_embeds=embeds, use_cache=False).last_hidden_state
        return self.model.get_output_embeddings()(answer_spans(hidden, rows, answers))

    def loss(
        self,
        features: AudioFeatures,
        targets: Sequence[str],
        gates: Gates = None,
        prompts: Prompts = None,
    ) -> Float[Tensor, ""]:
        """Mean next-token cross-entropy over all target tokens of the batch (AHAMask, section 3)."""
        losses, real = self.token_losses(features, targets, gates, prompts)
        return losses.sum() / real.sum()
