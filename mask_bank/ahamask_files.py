"""Masks in the files of the AHAMask authors and of HeadsUp, their predecessor for text models.

Both hold 1-D logits, `layers · (heads + 1)` of them; the last of each layer's group belongs to the feed-forward, and
their code ignores it. A logit of at least 0 is on. Two layouts:

- ahamask: `{"model": {"tensor": logits}}` saved by torch, a `.pth`;
- headsup: a safetensors file with the one tensor `tensor`, as the Trainer of transformers writes it.

Neither says which model it is for. Logits without the feed-forward's column are in neither, and not accepted.
"""

import hashlib
import io
import math
import pickle
import struct
import zipfile
from pathlib import Path

import safetensors.torch
import torch
from jaxtyping import Float32
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..data.atomic_write import write_atomic
from ..data.tasks import TaskSpec, parse_task
from ..errors import FileError, MaskError
from ..lalm.gating import Geometry
from ..lalm.identity import Identity
from .files import MAX_BYTES, SUFFIX, read_limited
from .mask import HeadMask

# (layers, heads) → models that masks of these layouts were or may be trained for. A file's length tells the geometry.
KNOWN_MODELS = {
    (16, 32): "Llama 3.2 1B",
    (24, 14): "Qwen2.5 0.5B",
    (26, 8): "Gemma 2 2B",
    (28, 12): "Qwen2.5 1.5B",
    (28, 24): "Llama 3.2 3B",
    (28, 28): "Qwen2.5 7B",
    (32, 32): "Qwen2-Audio 7B, Llama 3.1 8B, Mistral 7B, Phi-3.5 mini, Vicuna 7B",
    (36, 16): "Qwen2.5 3B",
    (40, 40): "SALMONN 13B, Vicuna 13B",
    (42, 16): "Gemma 2 9B",
    (48, 40): "Qwen2.5 14B",
    (64, 40): "Qwen2.5 32B",
    (80, 64): "Llama 3.1 70B",
}
SALMONN = Geometry((40,) * 40)  # the one model that the AHAMask authors released masks of
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
UNVOUCHED = "imported:"  # begins the fingerprint of a mask whose model was not at hand
IMPORTED = "import"  # the operation in the lineage of such masks
ENDINGS = (".pth", ".pt")  # of the AHAMask authors' files
NAME = "tensor"  # what the logits are called in both layouts
START = 4.0  # where the authors' logits start: stands for "on" where there is no logit, and -START for "off"
Shape = tuple[int | None, int | None]
"""(layers, heads a layer), each where it is known."""
# What torch.load raises on files that are not its own, or not only tensors.
_UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, ValueError, TypeError, AttributeError, LookupError, EOFError, OSError,
    OverflowError, AssertionError, RecursionError, struct.error, zipfile.BadZipFile,
)  # fmt: skip


def is_ahamask_file(path: Path) -> bool:
    """Whether a file is for `import_ahamask`: any, other than a safetensors file without their tensor (such as ours)."""
    if path.suffix != SUFFIX:
        return True
    try:
        with safe_open(path, "pt") as file:
            return NAME in file.keys()  # noqa: SIM118 (it is no mapping)
    except (SafetensorError, OSError):
        return False


def default_name(path: Path) -> str:
    """What a file without a better name may be called: the folder it lies in, which for both authors names the task."""
    folder = path.absolute().parent
    return (folder.parent if folder.name.startswith("checkpoint-") else folder).name.lower()


def _unpickled(data: bytes, path: Path) -> object:
    """What stands at ['model']['tensor'] of a torch file; code in it is never run (`weights_only`)."""
    try:
        if zipfile.is_zipfile(io.BytesIO(data)):
            unpacked = sum(entry.file_size for entry in zipfile.ZipFile(io.BytesIO(data)).infolist())
            if unpacked > MAX_BYTES:
                raise MaskError(f"cannot import {path}: it unpacks to {unpacked >> 20} MiB, so it is not a mask")
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except MaskError:
        raise
    except _UNREADABLE:
        advice = "expected torch.save({'model': {'tensor': logits}})"
        raise MaskError(f"cannot import {path}: torch cannot load it as tensors alone; {advice}") from None
    inner = content.get("model") if isinstance(content, dict) else None
    return inner.get(NAME) if isinstance(inner, dict) else None


def _load(data: bytes, path: Path) -> tuple[Float32[Tensor, " number"], str]:
    """The logits of a file, and its layout."""
    tensor: object
    if path.suffix == SUFFIX:
        layout, place = "headsup", "called 'tensor'"
        try:
            tensor = safetensors.torch.load(data).get(NAME)
        except (SafetensorError, ValueError, LookupError, TypeError):
            raise MaskError(f"cannot import {path}: it is not a whole safetensors file; copy it again") from None
    else:
        layout, place = "ahamask", "at ['model']['tensor']"
        tensor = _unpickled(data, path)
    if not isinstance(tensor, Tensor):
        expected = "expected torch.save({'model': {'tensor': logits}}), or HeadsUp's .safetensors with the tensor 'tensor'"
        raise MaskError(f"cannot import {path}: it has no tensor {place}; {expected}")
    exact = tensor.dtype in (torch.float32, torch.float16, torch.bfloat16)
    if not exact or tensor.dim() != 1 or tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise MaskError(f"cannot import {path}: its tensor is {tensor.dtype} of {tensor.dim()} axes; expected float32 of one")
    if not 0 < tensor.numel() <= MAX_BYTES // 4:
        raise MaskError(f"cannot import {path}: it has {tensor.numel()} numbers, so it is not a mask")
    tensor = tensor.detach().float().contiguous()
    if not bool(torch.isfinite(tensor).all()):
        raise MaskError(f"cannot import {path}: not all of its logits are finite")
    return tensor, layout


def infer_geometry(length: int) -> Geometry | None:
    """The geometry whose masks have this length in the authors' layouts; None unless one known model has it."""
    fitting = [(layers, heads) for layers, heads in KNOWN_MODELS if layers * (heads + 1) == length]
    return Geometry((fitting[0][1],) * fitting[0][0]) if len(fitting) == 1 else None


def _divide(length: int, shape: Shape, path: Path) -> Geometry | None:
    """The geometry of a file of this length, where its layers, its heads a layer or both are given; None where neither is."""
    layers, heads = shape
    if layers is None and heads is None:
        return None
    layers = layers or length // ((heads or 0) + 1)
    heads = heads or length // layers - 1
    if heads < 1 or layers * (heads + 1) != length:
        given = " and ".join(
            f"{number} {what}" for number, what in zip(shape, ("layers", "heads a layer"), strict=True) if number
        )
        raise MaskError(f"cannot import {path}: it has {length} numbers, which is not layers × (heads + 1) with {given}")
    return Geometry((heads,) * layers)


def _geometry(length: int, wanted: Geometry | None, model: str, path: Path) -> Geometry:
    """The geometry of a file of this length: that of the model, where it is told, else that of a known one."""
    told = infer_geometry(length)
    if wanted is None:
        if told is None:
            raise MaskError(f"cannot import {path}: no known model has masks of {length} numbers; give its layers and heads")
        return told
    layers, heads = wanted.shape
    if len(set(wanted.heads)) > 1 or length != layers * (heads + 1):
        theirs = f"; masks of {told} heads have that length ({KNOWN_MODELS[told.shape]})" if told else ""
        raise MaskError(
            f"cannot import {path}: it has {length} numbers, which is not layers × (heads + 1) of a model of {wanted}"
            f"{f' ({model})' if model else ''}{theirs}"
        )
    return wanted


def import_ahamask(
    path: Path,
    geometry: Geometry | None = None,
    task: TaskSpec | None = None,
    model: str = "",
    fingerprint: str | None = None,
    shape: Shape = (None, None),
) -> tuple[HeadMask, str]:
    """Read a mask of the authors; logits are kept, and the feed-forward's column moves to the lineage.

    Such a file does not say which weights it was trained on, and a mask works for those only. With the model at hand,
    give its fingerprint: whoever imports vouches that it is the right one, and the mask can be run. Without it the
    fingerprint is `imported:MODEL`: masks imported so can be listed, compared, combined and exported together, but no
    loaded model has that fingerprint, so they are never run on a wrong one; import again when the model is at hand.
    A text model's masks stay like that, as amask loads models that hear.

    Args:
        path: the file: HeadsUp's if it ends in .safetensors, else the AHAMask authors'.
        geometry: of the model; by default that of the known model whose masks have this length.
        task: what the mask triggers; by default told by the released masks' folders.
        model: the model's name, such as `Llama-3.1-8B-Instruct`; masks of different names never mix. By default
            `salmonn` for an AHAMask file of 40×40 heads, as released; any other must be named.
        fingerprint: the loaded model's.
        shape: where there is no geometry, its number of layers, of heads a layer, or both; the length tells the other.

    Returns:
        The mask, and a note on what was dropped.

    Raises:
        MaskError: the file is missing, in neither layout, holds code or numbers that are not finite, does not fit, or it
            was not said which model it is for.
    """
    data = read_limited(path)
    flat, layout = _load(data, path)
    geometry = _geometry(len(flat), geometry or _divide(len(flat), shape, path), model, path)
    layers, heads = geometry.shape
    if not model and (layout, geometry) != ("ahamask", SALMONN):
        some = f" (as {KNOWN_MODELS[layers, heads]} have)" if (layers, heads) in KNOWN_MODELS else ""
        raise MaskError(f"cannot import {path}: it does not say which model of {geometry} heads{some} it is for; name the model")
    model = model or "salmonn"
    table = flat.view(layers, heads + 1)
    ffn = table[:, -1].tolist()
    released = RELEASED.get(path.absolute().parent.name) if layout == "ahamask" else None
    task = task or (parse_task(released) if released else None)
    lineage = {"operation": IMPORTED, "layout": layout, "sha256": hashlib.sha256(data).hexdigest(), "ffn": ffn}
    mask = HeadMask.from_logits(
        table[:, :-1].contiguous(),
        Identity(geometry, fingerprint or f"{UNVOUCHED}{model}", model),
        task=task,
        lineage=lineage,
    )
    note = (
        f"dropped the {layers} feed-forward numbers ({min(ffn):.1f} to {max(ffn):.1f}), which the authors' code ignores; "
        "the lineage keeps them for export"
    )
    return mask, note


def export_ahamask(mask: HeadMask, path: Path, *, exclusive: bool = False) -> str:
    """Write a mask for the authors' code; an imported one gets the same tensor back, bit for bit.

    The layout is HeadsUp's if the file ends in .safetensors, else the AHAMask authors'. A mask without logits gets 4
    where a head is on and -4 where it is off; feed-forward numbers that were never there are 4 (their code ignores them).

    Args:
        mask: the mask.
        path: ends in .safetensors, .pth or .pt.
        exclusive: leave a file that is already there as it is.

    Returns:
        What was written, in words.

    Raises:
        FileExistsError: `exclusive`, and the file is there.
        MaskError: layers differ in their number of heads, which the layout cannot say.
        FileError: the ending is another, or the file cannot be written.
    """
    if path.suffix not in (SUFFIX, *ENDINGS):
        expected = f"AHAMask's ({' or '.join(ENDINGS)}) or HeadsUp's ({SUFFIX})"
        raise FileError(f"cannot export to {path}: its ending tells the layout; expected {expected}")
    if len(set(mask.geometry.heads)) > 1:
        raise MaskError(f"cannot export to the authors' layout: it has equally many heads a layer, the mask {mask.geometry}")
    layers, width = mask.geometry.shape
    heads = mask.logits if mask.logits is not None else torch.where(mask.bits, START, -START)
    kept = mask.lineage.get("ffn")
    known = isinstance(kept, list) and len(kept) == layers and all(isinstance(x, float) and math.isfinite(x) for x in kept)
    ffn = torch.tensor(kept if known else [START] * layers)
    flat = torch.cat([heads.detach().float().cpu(), ffn[:, None]], dim=1).flatten()
    if path.suffix == SUFFIX:
        data = safetensors.torch.save({NAME: flat}, metadata={"format": "pt"})
    else:
        buffer = io.BytesIO()
        torch.save({"model": {NAME: flat}}, buffer)
        data = buffer.getvalue()
    write_atomic(data, path, exclusive=exclusive)
    layout = "HeadsUp's" if path.suffix == SUFFIX else "the AHAMask authors'"
    made_up = "" if mask.logits is not None else f", {START:g} for on and -{START:g} for off, as it has no logits"
    return f"in {layout} layout, {layers} × ({width} + 1) numbers{made_up}"
