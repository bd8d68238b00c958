"""A model whose attentions keep some of their heads, as many in each layer as a mask has on; it needs transformers and no amask.

`amask bank export --format pruned --remote-code` writes this file beside the weights. `config.amask_heads` names each attention
and the heads that it keeps; each of them has a key and value head of its own.
"""

from typing import Any

from torch import nn
from transformers import Qwen2AudioForConditionalGeneration as Base


class PrunedModel(Base):
    """The model that it was cut from, with fewer heads.

    Args:
        config: the whole model's, with `amask_heads`: name of an attention → numbers of its heads.
    """

    def __init__(self, config: Any) -> None:  # noqa: ANN401
        super().__init__(config)
        for path, heads in config.amask_heads.items():
            shrink(self.get_submodule(path), max(1, len(heads)))


def shrink(attention: Any, heads: int) -> None:  # noqa: ANN401
    """Give an attention projections for some heads; one that keeps none has a head of zeros."""
    width = attention.head_dim
    for name in ("q_proj", "k_proj", "v_proj"):
        old = getattr(attention, name)
        setattr(attention, name, nn.Linear(old.in_features, heads * width, bias=old.bias is not None))
    old = attention.o_proj
    attention.o_proj = nn.Linear(heads * width, old.out_features, bias=old.bias is not None)
    attention.num_key_value_groups = 1
