"""The reader: token vectors in, states that know order and context out. Small enough to run in a millisecond."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

MAX_TOKENS = 96  # tokens that are read; what follows is not


class TokenEncoder(nn.Module):
    """Positions and two transformer layers.

    Args:
        width_in: of the token vectors.
        width: of the states.
        layers: how many layers.
        heads: attention heads of each.
        hidden: width of the feed-forward layers.
        dropout: while training.
    """

    def __init__(
        self, width_in: int, width: int = 128, layers: int = 2, heads: int = 4, hidden: int = 256, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.project = nn.Linear(width_in, width)
        self.positions = nn.Parameter(0.02 * torch.randn(MAX_TOKENS, width))
        layer = nn.TransformerEncoderLayer(width, heads, hidden, dropout, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(
        self, vectors: Float[Tensor, "row token width_in"], token_mask: Bool[Tensor, "row token"]
    ) -> Float[Tensor, "row token width"]:
        """The state of each token among the others.

        Args:
            vectors: of the tokens, padded on the right to at most `LONGEST`.
            token_mask: where they are.
        """
        states = self.project(vectors) + self.positions[: vectors.shape[1]]
        return self.layers(states, src_key_padding_mask=None if bool(token_mask.all()) else ~token_mask)


def mean_state(states: Float[Tensor, "row token width"], token_mask: Bool[Tensor, "row token"]) -> Float[Tensor, "row width"]:
    """The mean over a row's tokens, of length 1."""
    kept = token_mask.unsqueeze(-1).to(states.dtype)
    return nn.functional.normalize((states * kept).sum(1), dim=1)
