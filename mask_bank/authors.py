"""Masks in the layout of the AHAMask and HeadsUp authors: `{"model": {"tensor": logits}}`, saved by torch.

The logits are 1-D, `layers · (heads + 1)` of them; the last of each layer's group belongs to the feed-forward, and their
code ignores it. A logit of at least 0 is on.
"""

import hashlib
import io
import math
import pickle
import struct
import zipfile
from pathlib import Path

import torch
from jaxtyping import Float32
from torch import Tensor

from ..errors import MaskError
from ..lalm.gating import Geometry
from .files import MAX_BYTES, read_limited, write_whole
from .mask import HeadMask

# (layers, heads) of models that masks of this layout were or may be trained for: the length tells which.
KNOWN = (
    (16, 32),  # Llama 3.2 1B
    (24, 14),  # Qwen2.5 0.5B
    (28, 12),  # Qwen2.5 1.5B
    (28, 24),  # Llama 3.2 3B
    (28, 28),  # Qwen2.5 7B
    (32, 32),  # Qwen2-Audio 7B, Llama 3.1 8B, Vicuna 7B
    (36, 16),  # Qwen2.5 3B
    (40, 40),  # SALMONN 13B, Vicuna 13B
    (48, 40),  # Qwen2.5 14B
    (64, 40),  # Qwen2.5 32B
    (80, 64),  # Llama 3.1 70B
)
# The folders of the ten released masks, which are all called checkpoint.pth → task.
RELEASED = {
    "aac_audiocaps": "aac",
    "asr_gender_json_librispeech": "asr-gr-json",
    "asr_gender_librispeech": "asr-gr",
    "asr_librispeech": "asr",
    "asv_voxceleb1": "asv",
    "emotion_iemocap": "ser",
    "gender_asr_librispeech": "gr-asr",
    "gender_librispeech": "gr",
    "osr_libri2mix": "osr",
    "s2tt_covost2": "s2tt",
}
START = 4.0  # where the authors' logits start: stands for "on" where there is no logit, and -START for "off"
# What torch.load raises on files that are not its own, or not only tensors.
_UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, ValueError, TypeError, AttributeError, LookupError, EOFError, OSError,
    OverflowError, AssertionError, RecursionError, struct.error, zipfile.BadZipFile,
)  # fmt: skip


def _load(data: bytes, path: Path) -> Float32[Tensor, " number"]:
    """The tensor of an authors' file; code in it is never run (`weights_only`)."""
    advice = "expected torch.save({'model': {'tensor': logits}})"
    try:
        if zipfile.is_zipfile(io.BytesIO(data)):
            unpacked = sum(entry.file_size for entry in zipfile.ZipFile(io.BytesIO(data)).infolist())
            if unpacked > MAX_BYTES:
                raise MaskError(f"cannot import {path}: it unpacks to {unpacked >> 20} MiB, so it is not a mask")
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except MaskError:
        raise
    except _UNREADABLE:
        raise MaskError(f"cannot import {path}: torch cannot load it as tensors alone; {advice}") from None
    inner = content.get("model") if isinstance(content, dict) else None
    tensor = inner.get("tensor") if isinstance(inner, dict) else None
    if not isinstance(tensor, Tensor):
        raise MaskError(f"cannot import {path}: it has no tensor at ['model']['tensor']; {advice}")
    exact = tensor.dtype in (torch.float32, torch.float16, torch.bfloat16)
    if not exact or tensor.dim() != 1 or tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise MaskError(f"cannot import {path}: its tensor is {tensor.dtype} of {tensor.dim()} axes; expected float32 of one")
    if not 0 < tensor.numel() <= MAX_BYTES // 4:
        raise MaskError(f"cannot import {path}: it has {tensor.numel()} numbers, so it is not a mask")
    tensor = tensor.detach().float().contiguous()
    if not bool(torch.isfinite(tensor).all()):
        raise MaskError(f"cannot import {path}: not all of its logits are finite")
    return tensor


def infer_geometry(length: int) -> Geometry | None:
    """The geometry whose masks have this length in the authors' layout; None unless one known model has it."""
    fitting = [(layers, heads) for layers, heads in KNOWN if layers * (heads + 1) == length]
    return Geometry((fitting[0][1],) * fitting[0][0]) if len(fitting) == 1 else None


def import_authors(
    path: Path, geometry: Geometry | None = None, task: str = "", model: str = "salmonn", fingerprint: str | None = None
) -> tuple[HeadMask, str]:
    """Read a mask of the authors; logits are kept, and the feed-forward's column moves to the lineage.

    Such a file does not say which weights it was trained on, and a mask works for those only. With the model at hand,
    give its fingerprint: whoever imports vouches that it is the right one, and the mask can be run. Without it the
    fingerprint is `imported:MODEL`: masks imported so can be listed, compared, composed and exported together, but no
    loaded model has that fingerprint, so they are never run on a wrong one; import again when the model is at hand.

    Args:
        path: the `.pth` file.
        geometry: of the model; by default that of the known model whose masks have this length.
        task: what the mask triggers; by default told by the released masks' folders.
        model: the model's name.
        fingerprint: the loaded model's.

    Returns:
        The mask, and a note on what was dropped.

    Raises:
        MaskError: the file is missing, not in this layout, holds code or numbers that are not finite, or does not fit.
    """
    data = read_limited(path)
    flat = _load(data, path)
    geometry = geometry or infer_geometry(len(flat))
    if geometry is None:
        raise MaskError(f"cannot import {path}: no known model has masks of {len(flat)} numbers; give its layers and heads")
    layers, heads = geometry.shape
    if len(set(geometry.heads)) > 1 or len(flat) != layers * (heads + 1):
        raise MaskError(
            f"cannot import {path}: it has {len(flat)} numbers, which is not layers × (heads + 1) of a model of {geometry}"
        )
    table = flat.view(layers, heads + 1)
    ffn = table[:, -1].tolist()
    task = task or RELEASED.get(path.parent.name, "")
    lineage = {"operation": "import", "layout": "ahamask", "task": task, "sha256": hashlib.sha256(data).hexdigest(), "ffn": ffn}
    mask = HeadMask.from_logits(
        table[:, :-1].contiguous(),
        geometry,
        fingerprint=fingerprint or f"imported:{model}",
        model=model,
        task=task,
        lineage=lineage,
    )
    note = (
        f"dropped the {layers} feed-forward numbers ({min(ffn):.1f} to {max(ffn):.1f}), which the authors' code ignores; "
        "the lineage keeps them for export"
    )
    return mask, note


def export_authors(mask: HeadMask, path: Path) -> None:
    """Write a mask in the authors' layout; an imported one gets the same tensor back, bit for bit.

    A mask without logits gets 4 where a head is on and -4 where it is off; feed-forward numbers that were never there
    are 4 (their code ignores them).

    Raises:
        MaskError: layers differ in their number of heads, which the layout cannot say.
        BankError: the file cannot be written.
    """
    if len(set(mask.geometry.heads)) > 1:
        raise MaskError(f"cannot export to the authors' layout: it has equally many heads a layer, the mask {mask.geometry}")
    layers, _ = mask.geometry.shape
    heads = mask.logits if mask.logits is not None else torch.where(mask.bits, START, -START)
    kept = mask.lineage.get("ffn")
    known = isinstance(kept, list) and len(kept) == layers and all(isinstance(x, float) and math.isfinite(x) for x in kept)
    ffn = torch.tensor(kept if known else [START] * layers)
    flat = torch.cat([heads.detach().float().cpu(), ffn[:, None]], dim=1).flatten()
    buffer = io.BytesIO()
    torch.save({"model": {"tensor": flat}}, buffer)
    write_whole(buffer.getvalue(), path)
