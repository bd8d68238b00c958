"""Attention for the language model's training: 64 heads of width 8 a layer, many clips in a row, many answers behind each.

PyTorch's CPU kernels are made for wide heads: with these, attention took four fifths of a step (11 s of 4500 tokens on two
cores). `attention.c` does the same in a fraction; it is compiled where it is used. Without a C compiler PyTorch's own is.
"""

import ctypes
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "pocket"
SOURCE = Path(__file__).with_name("attention.c")
WIDTH = 8


@cache
def _library() -> ctypes.CDLL | None:
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    # The parts of -ffast-math one by one: with that name the library, when loaded, would flush small numbers to zero in
    # the whole process.
    free = ["-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-ffinite-math-only", "-fassociative-math"]
    with tempfile.TemporaryDirectory() as folder:  # nobody else's library can lie there
        made = Path(folder) / "attention.so"
        flags = ["-O3", "-march=native", *free, "-freciprocal-math", "-shared", "-fPIC"]
        subprocess.run([compiler, *flags, str(SOURCE), "-o", str(made), "-lm"], check=True)
        return ctypes.CDLL(str(made))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


def _call(name: str, before: list[Tensor], scale: float, heads: int, after: list[Tensor]) -> None:
    """Call a function of the library for all rows, divided among the threads."""
    function = getattr(_library(), name)
    rows, tokens = before[0].shape[0] * heads, before[0].shape[2]
    threads = torch.get_num_threads()

    def work(number: int) -> None:
        bounds = (rows * number // threads, rows * (number + 1) // threads)
        space = torch.empty(2, tokens)
        sizes = [ctypes.c_long(size) for size in (tokens, heads, *bounds)]
        pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (*after, space)]
        function(*(ctypes.c_void_p(tensor.data_ptr()) for tensor in before), ctypes.c_float(scale), *sizes, *pointers)

    list(_pool(threads).map(work, range(threads)))


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, ranges: Tensor, scale: float) -> Tensor:  # noqa: ANN401
        query = query.contiguous()
        keys, values = key.transpose(2, 3).contiguous(), value.transpose(2, 3).contiguous()
        out, lse = torch.empty_like(query), query.new_empty(query.shape[:3])
        _call("forward", [query, keys, values, ranges], scale, query.shape[1], [out, lse])
        ctx.save_for_backward(query, keys, values, ranges, out, lse)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # noqa: ANN401
        query, keys, values, ranges, out, lse = ctx.saved_tensors
        dq, dk, dv = torch.empty_like(query), torch.zeros_like(keys), torch.zeros_like(values)
        before, after = [query, keys, values, ranges], [out, lse, given.contiguous(), dq, dk, dv]
        _call("backward", before, ctx.scale, query.shape[1], after)
        return dq, dk.transpose(2, 3), dv.transpose(2, 3), None, None


def attend(
    query: Float[Tensor, "row head token 8"],
    key: Float[Tensor, "row head token 8"],
    value: Float[Tensor, "row head token 8"],
    ranges: Int[Tensor, "row token 4"],
    scale: float,
) -> Float[Tensor, "row head token 8"]:
    """Softmax attention in which token i sees the tokens [0, a), [b, c) and [d, i].

    Args:
        query: of each token.
        key: of each token.
        value: of each token.
        ranges: int32; a, b, c and d of each token, in this order, so that no token is seen twice.
        scale: of the scores.
    """
    if _library() is not None and query.shape[-1] == WIDTH and query.dtype == torch.float32:
        return _Attention.apply(query, key, value, ranges, scale)
    key_at = torch.arange(query.shape[2])[None, None]
    first, start, end, own = (ranges[..., number : number + 1] for number in range(4))
    seen = (key_at < first) | ((key_at >= start) & (key_at < end)) | ((key_at >= own) & (key_at <= key_at.mT))
    return nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen[:, None], scale=scale)


def _interface(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **about: Any,  # noqa: ANN401
) -> tuple[Tensor, None]:
    ranges = attention_mask
    if ranges is None and 1 < query.shape[2] == key.shape[2]:  # plain causal attention
        ranges = torch.zeros(len(query), query.shape[2], 4, dtype=torch.int32)
    if ranges is None or ranges.dtype != torch.int32:  # answers token by token, or behind padding
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **about)
    return attend(query, key, value, ranges, scaling).transpose(1, 2), None


def use_attention(decoder: nn.Module) -> None:
    """Let a Qwen2 model's layers use `attend` where it can; its mask is causal by default, or `{"full_attention": ranges}`."""
    AttentionInterface.register(NAME, _interface)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    config: Any = decoder.config
    config._attn_implementation = NAME
