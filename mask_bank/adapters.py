"""A mask as an adapter of PEFT: as (IA)³, which a head mask is exactly, and as LoRA for engines that know nothing else.

(IA)³ scales the *input* of a feed-forward module by a vector. With `o_proj` named as one, and each head's bit repeated over
the head's width, that is the mask: `MHA_i(X) = Σ_j m_ij · Y_ij · W_O_ij`. The folders are written here without PEFT.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from torch import Tensor, nn

from ..data.atomic_write import write_atomic
from ..data.tasks import TaskSpec
from ..errors import MaskError
from ..lalm.base import LALM
from ..lalm.gating import Geometry, HeadSite
from ..lalm.identity import Identity
from .ahamask_files import IMPORTED, UNVOUCHED
from .files import load_mask, read_limited, save_mask
from .mask import HeadMask

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MASK = "mask.safetensors"  # the mask in amask's own format, beside what others read
_PREFIX = "base_model.model."  # of every name in PEFT's files
_IA3 = re.compile(rf"{re.escape(_PREFIX)}(.+)\.ia3_l")
_COMMON = {"task_type": None, "inference_mode": True, "revision": None, "modules_to_save": None, "exclude_modules": None}


def named_sites(model: LALM) -> dict[str, HeadSite]:
    """Where the heads are, by the name of each layer's projection in the model of transformers, first layer first.

    Raises:
        MaskError: a projection is not part of that model.
    """
    names = {id(module): name for name, module in model.model.named_modules()}
    missing = [site for site in model.sites if id(site.projection) not in names]
    if missing:
        raise MaskError(f"cannot export for {model.name}: its attention is not part of the model that transformers loads")
    return {names[id(site.projection)]: site for site in model.sites}


def gate_vector(bits: Bool[Tensor, " head"], site: HeadSite) -> Float[Tensor, " input"]:
    """What scales the input of a layer's projection: each head's bit over the head's width."""
    return bits[: site.heads].float().cpu().repeat_interleave(site.width)


def export_peft(model: LALM, mask: HeadMask, folder: Path, name: str = "") -> str:
    """Write a mask as an (IA)³ adapter that `PeftModel.from_pretrained` and `model.load_adapter` take.

    Args:
        model: the mask's model, which tells the names of its projections.
        mask: the mask.
        folder: is there already.
        name: what the mask is called in `mask.safetensors`, which lies beside the adapter; by default its task.

    Returns:
        What was written, in words.

    Raises:
        MaskError: the mask is of another model.
        FileError: the folder cannot be written.
    """
    mask.require(model)
    sites = named_sites(model)
    tensors = {
        f"{_PREFIX}{path}.ia3_l": gate_vector(bits, site)[None]
        for bits, (path, site) in zip(mask.bits, sites.items(), strict=True)
    }
    config = {"peft_type": "IA3", "target_modules": list(sites), "feedforward_modules": list(sites), "fan_in_fan_out": False}
    _write(folder, config | {"init_ia3_weights": True}, tensors, model, mask, name)
    return f"an (IA)³ adapter of {sum(tensor.numel() for tensor in tensors.values())} numbers for {mask.identity}"


def _write(folder: Path, config: Mapping[str, Any], tensors: dict[str, Tensor], model: LALM, mask: HeadMask, name: str) -> None:
    about = {**_COMMON, **config, "base_model_name_or_path": model.name}
    write_atomic(json.dumps(about, indent=2, sort_keys=True).encode() + b"\n", folder / CONFIG)
    write_atomic(safetensors.torch.save(tensors, metadata={"format": "pt"}), folder / WEIGHTS)
    save_mask(mask, name or mask.task_name or "mask", 1, folder / MASK)


@dataclass(frozen=True)
class LoraSize:
    """What a mask costs as a LoRA.

    Attributes:
        exact: the rank at which it is exact: numbers that heads that are off put into a projection, at most a layer.
        rank: the rank asked for; `exact` where none was.
        bytes: of the file, in the model's precision.
        lost: the largest share of a layer's update, by its squared norm, that a smaller rank leaves out; 0 where exact.
    """

    exact: int
    rank: int
    bytes: int
    lost: float = 0.0


def lora_size(model: LALM, mask: HeadMask, max_rank: int | None = None) -> LoraSize:
    """The rank and size of a mask as a LoRA, before anything is computed.

    Raises:
        MaskError: the mask is of another model, has all heads on, or a projection is no linear layer.
    """
    mask.require(model)
    weights = [_linear(path, site).weight for path, site in named_sites(model).items()]
    exact = max(int((~bits[: site.heads]).sum().item()) * site.width for bits, site in zip(mask.bits, model.sites, strict=True))
    if not exact:
        raise MaskError("all heads of the mask are on, so there is nothing to export: the model without a prompt is the same")
    rank = min(exact, max_rank or exact)
    numbers = sum(rank * (weight.shape[0] + weight.shape[1]) for weight in weights)
    return LoraSize(exact, rank, numbers * weights[0].element_size())


def _linear(path: str, site: HeadSite) -> nn.Linear:
    if not isinstance(site.projection, nn.Linear):
        raise MaskError(f"cannot export as LoRA: {path} is a {type(site.projection).__name__}, no linear layer; use peft")
    return site.projection


@torch.no_grad()
def lora_update(
    projection: nn.Linear, off: Bool[Tensor, " input"], rank: int
) -> tuple[Float[Tensor, "rank input"], Float[Tensor, "output rank"], float]:
    """A and B with `B @ A = −W_o[:, off]` at these inputs and 0 elsewhere; the share that a smaller rank leaves out.

    Args:
        projection: the output projection of a layer.
        off: True for the inputs that heads that are off put into it.
        rank: rows of A; those that are not needed are 0.
    """
    weight = projection.weight.float()
    columns = off.nonzero()[:, 0].to(weight.device)
    first, second = weight.new_zeros(rank, weight.shape[1]), weight.new_zeros(weight.shape[0], rank)
    taken = weight[:, columns]
    if len(columns) <= rank:
        first[torch.arange(len(columns)), columns] = 1.0
        second[:, : len(columns)] = -taken
        return first, second, 0.0
    left, values, right = torch.linalg.svd(taken, full_matrices=False)
    kept = min(rank, len(values))
    first[:kept, columns] = right[:kept]
    second[:, :kept] = -left[:, :kept] * values[:kept]
    return first, second, float(1 - values[:kept].square().sum() / values.square().sum())


def export_lora(model: LALM, mask: HeadMask, folder: Path, name: str = "", max_rank: int | None = None) -> LoraSize:
    """Write a mask as a LoRA of the output projections: `W_o` without the columns of heads that are off.

    One rank for all layers, since engines such as vLLM expect that; `lora_alpha` equals it, so the scale is 1.

    Args:
        model: the mask's model.
        mask: the mask.
        folder: is there already.
        name: as for `export_peft`.
        max_rank: cut to this rank by singular values, which is no longer the mask; None is exact.

    Raises:
        MaskError: see `lora_size`.
        FileError: the folder cannot be written.
    """
    size = lora_size(model, mask, max_rank)
    tensors: dict[str, Tensor] = {}
    lost = 0.0
    for bits, (path, site) in zip(mask.bits, named_sites(model).items(), strict=True):
        projection = _linear(path, site)
        first, second, share = lora_update(projection, gate_vector(~bits, site).bool(), size.rank)
        dtype, lost = projection.weight.dtype, max(lost, share)
        tensors[f"{_PREFIX}{path}.lora_A.weight"] = first.to(dtype).cpu().contiguous()
        tensors[f"{_PREFIX}{path}.lora_B.weight"] = second.to(dtype).cpu().contiguous()
    config = {"peft_type": "LORA", "r": size.rank, "lora_alpha": size.rank, "lora_dropout": 0.0, "bias": "none"}
    config |= {
        "target_modules": list(named_sites(model)),
        "fan_in_fan_out": False,
        "use_rslora": False,
        "init_lora_weights": True,
    }
    _write(folder, config, tensors, model, mask, name)
    return LoraSize(size.exact, size.rank, size.bytes, lost)


def is_adapter(path: Path) -> bool:
    """Whether a path is a folder of PEFT."""
    return (path / CONFIG).is_file()


def import_peft(
    folder: Path,
    identity: Identity | None = None,
    task: TaskSpec | None = None,
    model: str = "",
    heads: int | None = None,
) -> HeadMask:
    """Read an (IA)³ adapter that is a head mask: vectors that are 0 or 1 and the same over each head.

    The mask beside it, which amask writes, tells model, task and lineage; it must be the same mask. A folder without one does
    not say which weights it is for: with `identity`, whoever imports vouches for that; without, the mask gets the fingerprint
    `imported:MODEL` and is never run (as `ahamask_files.import_ahamask` does it).

    Args:
        folder: with `adapter_config.json` and `adapter_model.safetensors`.
        identity: the loaded model's.
        task: what the mask triggers; by default what the mask beside the adapter says.
        model: the model's name, where there is neither; by default the adapter's base model.
        heads: heads a layer, where nothing else tells.

    Raises:
        MaskError: it is no such adapter, or not a head mask, or differs from the mask beside it.
    """
    base, vectors, digest = _read(folder)
    beside = load_mask(folder / MASK) if (folder / MASK).is_file() else None
    if beside is not None:
        identity = identity or beside.identity
        beside.require(identity)
    if identity is None:
        if not heads:
            raise MaskError(
                f"cannot import {folder}: it does not say how many heads a layer has; give --heads, or --model and --vouch"
            )
        model = model or base.rpartition("/")[2] or "unknown"
        identity = Identity(Geometry((heads,) * len(vectors)), f"{UNVOUCHED}{model}", model)
    bits = _bits(vectors, identity.geometry, folder)
    if beside is not None:
        if not torch.equal(bits, beside.bits):
            raise MaskError(f"cannot import {folder}: {WEIGHTS} and {MASK} in it are different masks; export it anew")
        changed = task is not None and task.name != beside.task_name
        return beside.with_(task=task, scores={}) if changed else beside.with_()
    return HeadMask(bits, identity, task, lineage={"operation": IMPORTED, "layout": "peft", "sha256": digest})


def _read(folder: Path) -> tuple[str, list[Float[Tensor, " _"]], str]:
    """The base model's name, each layer's vector, and the hash of the weights' file."""
    try:
        config = json.loads(read_limited(folder / CONFIG))
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise MaskError(f"cannot import {folder}: {CONFIG} is not a JSON object")
    kind = config.get("peft_type")
    if kind != "IA3":
        raise MaskError(
            f"cannot import {folder}: it is an adapter of kind {kind}; a head mask is IA3 over the output projections"
        )
    data = read_limited(folder / WEIGHTS)
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, ValueError, LookupError, TypeError):
        raise MaskError(f"cannot import {folder}: {WEIGHTS} is not a whole safetensors file; copy it again") from None
    found = dict(_by_layer(tensors, folder))
    if sorted(found) != list(range(len(found))) or not found:
        raise MaskError(f"cannot import {folder}: it has vectors for layers {sorted(found)}; a head mask has one for each layer")
    return (
        str(config.get("base_model_name_or_path") or ""),
        [found[layer] for layer in sorted(found)],
        hashlib.sha256(data).hexdigest(),
    )


def _by_layer(tensors: Mapping[str, Tensor], folder: Path) -> Iterator[tuple[int, Tensor]]:
    for name, tensor in tensors.items():
        match = _IA3.fullmatch(name)
        layers = re.findall(r"\.(\d+)\.", name)
        if not match or not layers:
            raise MaskError(f"cannot import {folder}: {name} is no (IA)³ vector of a layer, so this is more than a head mask")
        if tensor.dim() != 2 or tensor.shape[0] != 1:
            raise MaskError(
                f"cannot import {folder}: {name} has shape {tuple(tensor.shape)}; expected (1, inputs of a projection)"
            )
        yield int(layers[-1]), tensor[0].float()


def _bits(vectors: list[Float[Tensor, " _"]], geometry: Geometry, folder: Path) -> Bool[Tensor, "layer head"]:
    if len(vectors) != len(geometry.heads):
        raise MaskError(f"cannot import {folder}: it has {len(vectors)} layers, the model has {geometry} heads")
    bits = torch.zeros(geometry.shape, dtype=torch.bool)
    for layer, (vector, heads) in enumerate(zip(vectors, geometry.heads, strict=True)):
        if len(vector) % heads:
            raise MaskError(f"cannot import {folder}: layer {layer} is {len(vector)} wide, which {heads} heads do not divide")
        by_head = vector.view(heads, -1)
        binary = ((by_head == 0) | (by_head == 1)).all(1) & (by_head == by_head[:, :1]).all(1)
        if not bool(binary.all()):
            head = int((~binary).nonzero()[0])
            low, high = float(by_head[head].min()), float(by_head[head].max())
            raise MaskError(
                f"cannot import {folder}: head {head} of layer {layer} is scaled by {low:.3g} to {high:.3g}; a head mask is "
                "0 or 1 over a head, so this is an adapter of another kind"
            )
        bits[layer, :heads] = by_head[:, 0] == 1
    return bits
