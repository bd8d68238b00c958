"""A masked model as an ordinary checkpoint: its heads' columns at zero (folded), or fewer heads in every layer (pruned).

Both load in plain transformers, without amask, and answer as the mask does unconstrained. Neither changes the model in memory.
"""

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel

from ..data.atomic_write import folder_atomic, write_atomic
from ..errors import FileError, MaskError
from ..lalm.answering import MAX_NEW_TOKENS
from ..lalm.base import LALM
from ..lalm.qwen2_audio import SETUP_FILE, Qwen2Audio, Setup
from . import modeling_pruned
from .adapters import CONFIG, MASK, gate_vector, named_sites
from .files import save_mask
from .mask import HeadMask

MODELLING = "modeling_amask.py"  # in folders that transformers loads with trust_remote_code
AUTO_CLASSES = ("AutoModelForMultimodalLM", "AutoModelForCausalLM", "AutoModelForSeq2SeqLM")


@contextmanager
def new_folder(path: Path, *, force: bool = False) -> Iterator[Path]:
    """A folder that appears under its name when all in it is written, or not at all.

    Args:
        path: the folder to be.
        force: replace one that is there, if it is an export of a mask.

    Raises:
        FileError: it is there, or cannot be written.
    """
    if path.exists() and not (force and ((path / MASK).is_file() or (path / CONFIG).is_file())):
        advice = (
            "it is no export of a mask, so it is not replaced" if force else "choose another name, or replace it with --force"
        )
        raise FileError(f"{path} is there already; {advice}")
    with folder_atomic(path) as part:
        yield part


@contextmanager
def _folded(model: LALM, mask: HeadMask) -> Iterator[None]:
    """The columns of heads that are off are zero within; afterwards the weights are what they were."""
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    try:
        with torch.no_grad():
            for bits, site in zip(mask.bits, model.sites, strict=True):
                weight = _columns(site.projection)
                off = (~gate_vector(bits, site).bool()).nonzero()[:, 0].to(weight.device)
                kept.append((weight, off, weight[:, off].clone()))
                weight[:, off] = 0
        yield
    finally:
        with torch.no_grad():
            for weight, off, values in kept:
                weight[:, off] = values


def _columns(projection: nn.Module) -> Tensor:
    """A projection's weight as (outputs, inputs); a view."""
    weight: Any = projection.weight
    return weight if isinstance(projection, nn.Linear) else weight.T


def export_folded(model: LALM, mask: HeadMask, folder: Path, name: str = "") -> str:
    """Write a masked model whole: the same size as the model, for every engine that loads the model.

    Args:
        model: the mask's model.
        mask: the mask.
        folder: is there already, and empty.
        name: what the mask is called in `mask.safetensors`; by default its task.

    Returns:
        What was written, in words.

    Raises:
        MaskError: the mask is of another model, or the model cannot be saved by transformers alone.
        FileError: the folder cannot be written.
    """
    mask.require(model)
    named_sites(model)
    with _folded(model, mask):
        _save(model, _transformers_model(model), folder)
    _save_about(model, mask, folder, name)
    return f"the whole of {model.name} with {mask.heads_total - mask.heads_on} heads at zero, {_gigabytes(folder)}"


def _transformers_model(model: LALM) -> PreTrainedModel:
    if not isinstance(model.model, PreTrainedModel) or getattr(model, "processor", None) is None:
        raise MaskError(f"cannot export {model.name} as a checkpoint: transformers alone cannot load it; use --format peft")
    return model.model


def _save(model: LALM, inner: PreTrainedModel, folder: Path) -> None:
    """Write weights, configuration and processor so that plain `generate` does what amask does unconstrained."""
    saved: Any = copy(inner)
    saved.config = deepcopy(inner.config)
    saved.config.dtype = next(inner.parameters()).dtype
    saved.generation_config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=MAX_NEW_TOKENS,
        bos_token_id=inner.generation_config.bos_token_id,
        eos_token_id=model.end_tokens,
        pad_token_id=model.pad_token,
    )
    saved.save_pretrained(folder)
    processor: Any = copy(model.processor)  # type: ignore[attr-defined]
    tokenizer = processor.tokenizer = copy(model.tokenizer)
    tokenizer.padding_side = "left"
    if isinstance(model, Qwen2Audio):  # its text around the audio is constant, whatever the conversation says
        text = f"{model.template.before}{processor.audio_token}{model.template.after.format('')}"
        processor.chat_template = "{{ " + json.dumps(text, ensure_ascii=False) + " }}"
    processor.save_pretrained(folder)


def _save_about(model: LALM, mask: HeadMask, folder: Path, name: str) -> None:
    save_mask(mask, name or mask.task_name or "mask", 1, folder / MASK)
    if isinstance(model, Qwen2Audio):
        template = model.template
        setup = Setup(before=template.before, after=template.after, end=template.end, **model.audio.model_dump())
        write_atomic(setup.model_dump_json(indent=1).encode() + b"\n", folder / SETUP_FILE)


def _gigabytes(folder: Path) -> str:
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


@dataclass(frozen=True)
class PrunedSize:
    """What an ordinary checkpoint with fewer heads gains.

    Attributes:
        heads: query heads in every layer now.
        of: query heads in every layer before.
        attention: weights of the attentions, now over before.
        weights: weights of the whole model, now over before.
    """

    heads: int
    of: int
    attention: float
    weights: float

    def __str__(self) -> str:
        """`14 of 20 heads in every layer: 70 % of the attentions' weights, 88 % of the model's`."""
        shares = f"{100 * self.attention:.0f} % of the attentions' weights, {100 * self.weights:.0f} % of the model's"
        return f"{self.heads} of {self.of} heads in every layer: {shares}"


@dataclass(frozen=True)
class _Stack:
    """A decoder whose layers have equally many heads, as most do.

    Attributes:
        paths: of the attentions, first layer first.
        heads, groups: query heads, and key and value heads.
        width: numbers a head.
    """

    paths: tuple[str, ...]
    heads: int
    groups: int
    width: int


def _stack(model: LALM) -> _Stack:
    """The decoder of a model, if its attentions can be cut in an ordinary configuration.

    Raises:
        MaskError: they cannot; the message says why and what to use instead.
    """
    inner = _transformers_model(model)
    text: Any = inner.config.get_text_config(decoder=True)
    heads, groups = text.num_attention_heads, getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    paths = []
    for path, site in named_sites(model).items():
        parent = path.rpartition(".")[0]
        attention = inner.get_submodule(parent)
        linear = [getattr(attention, name, None) for name in ("q_proj", "k_proj", "v_proj", "o_proj")]
        if site.heads != heads or not all(type(module) is nn.Linear for module in linear):
            raise MaskError(
                f"cannot export {model.name} pruned: {parent} has not the four projections of {heads} heads that an ordinary "
                "configuration describes; use --format folded, or model.pruned(mask)"
            )
        paths.append(parent)
    if len(paths) != text.num_hidden_layers:
        raise MaskError(f"cannot export {model.name} pruned: not all of its layers have attention; use --format folded")
    return _Stack(tuple(paths), heads, groups, model.sites[0].width)


def _kept(mask: HeadMask, stack: _Stack) -> int:
    """Query heads that each group of each layer keeps: as many as the fullest has on."""
    if stack.groups == stack.heads:
        return max(1, int(mask.bits.sum(1).max()))
    return max(1, int(mask.bits.view(len(stack.paths), stack.groups, -1).sum(2).max()))


def _configured(model: LALM, stack: _Stack, kept: int) -> tuple[Any, int]:
    """The configuration with fewer heads, and how many of a group it has: some families want a divisor of their width."""
    grouped = stack.groups != stack.heads
    for size in range(kept, stack.heads // (stack.groups if grouped else 1)):
        config: Any = deepcopy(model.model.config)
        text = config.get_text_config(decoder=True)
        text.num_attention_heads = size * stack.groups if grouped else size
        text.num_key_value_heads = stack.groups if grouped else size
        text.head_dim = stack.width
        try:
            type(config).from_dict(config.to_dict())
        except (ValueError, TypeError):
            continue
        return config, size
    raise MaskError(
        f"nothing is gained: a layer of the mask has all of its heads on (of {stack.heads}), and an ordinary checkpoint has "
        "equally many in every layer; use --format folded or peft, or run it with --prune"
    )


def pruned_size(model: LALM, mask: HeadMask) -> PrunedSize:
    """What `export_pruned` gains, before anything is written.

    Raises:
        MaskError: the mask is of another model, a layer of it has all heads on, or the model cannot be cut so.
    """
    mask.require(model)
    stack = _stack(model)
    text = _configured(model, stack, _kept(mask, stack))[0].get_text_config(decoder=True)
    share, own = text.num_attention_heads / stack.heads, stack.groups == stack.heads
    attention = [model.model.get_submodule(path) for path in stack.paths]
    names = ("q_proj", "k_proj", "v_proj", "o_proj")
    cut = sum(
        module.get_submodule(name).weight.numel() for module in attention for name in (names if own else ("q_proj", "o_proj"))
    )
    every = sum(module.get_submodule(name).weight.numel() for module in attention for name in names)
    total = sum(parameter.numel() for parameter in model.model.parameters())
    gone = cut * (1 - share)
    return PrunedSize(text.num_attention_heads, stack.heads, 1 - gone / every, 1 - gone / total)


@torch.no_grad()
def export_pruned(model: LALM, mask: HeadMask, folder: Path, name: str = "") -> PrunedSize:
    """Write a smaller checkpoint of the stock class: every layer keeps as many heads as the fullest, filled up with zeros.

    Args:
        model: the mask's model.
        mask: the mask.
        folder: is there already, and empty.
        name: as for `export_folded`.

    Raises:
        MaskError: see `pruned_size`.
        FileError: the folder cannot be written.
    """
    size = pruned_size(model, mask)
    stack = _stack(model)
    config, kept = _configured(model, stack, _kept(mask, stack))
    with torch.device("meta"):
        small = type(_transformers_model(model))(config)
    state = dict(model.model.state_dict())
    for path, bits in zip(stack.paths, mask.bits, strict=True):
        state |= _cut(state, path, bits, stack, kept)
    small.load_state_dict(state, strict=True, assign=True)
    small.generation_config = model.model.generation_config
    _save(model, small.eval(), folder)
    _save_about(model, mask, folder, name)
    return size


def _cut(state: dict[str, Tensor], path: str, bits: Bool[Tensor, " head"], stack: _Stack, kept: int) -> dict[str, Tensor]:
    """One attention's weights with `kept` heads a group (all heads are one group where each has keys of its own)."""
    own = stack.groups == stack.heads
    picked: list[int] = []  # the heads that stay, group by group; -1 where a group is filled up
    for group, on in enumerate(bits.view(1 if own else stack.groups, -1)):
        heads = [group * len(on) + int(head) for head in on.nonzero()[:, 0]]
        picked += heads + [-1] * (kept - len(heads))
    filled = torch.tensor([head >= 0 for head in picked]).repeat_interleave(stack.width)
    units = _units([max(head, 0) for head in picked], stack.width)
    found = {}
    for name in ("q_proj", "k_proj", "v_proj") if own else ("q_proj",):
        for kind in ("weight", "bias"):
            tensor = state.get(f"{path}.{name}.{kind}")
            if tensor is not None:
                chosen = tensor[units.to(tensor.device)].clone()
                chosen[~filled.to(tensor.device)] = 0
                found[f"{path}.{name}.{kind}"] = chosen
    weight = state[f"{path}.o_proj.weight"]
    chosen = weight[:, units.to(weight.device)].clone()
    chosen[:, ~filled.to(weight.device)] = 0
    return found | {f"{path}.o_proj.weight": chosen}


def export_remote_code(model: LALM, mask: HeadMask, folder: Path, name: str = "") -> PrunedSize:
    """Write a smaller checkpoint whose layers keep what the mask has on, with the file that transformers loads it by.

    It loads with `trust_remote_code=True`. With grouped queries each head gets a copy of its key and value head, so that the
    cache of a layer may be larger than the whole model's.

    Args:
        model: the mask's model.
        mask: the mask.
        folder: is there already, and empty.
        name: as for `export_folded`.

    Raises:
        MaskError: the mask is of another model, or the model cannot be cut so.
        FileError: the folder cannot be written.
    """
    mask.require(model)
    stack = _stack(model)
    inner = _transformers_model(model)
    base = type(inner).__name__
    source = Path(modeling_pruned.__file__).read_text(encoding="utf-8")
    source = source.replace("import Qwen2AudioForConditionalGeneration as Base", f"import {base} as Base")
    write_atomic(source.encode(), folder / MODELLING)
    config: Any = deepcopy(inner.config)
    config.amask_heads = {path: bits.nonzero()[:, 0].tolist() for path, bits in zip(stack.paths, mask.bits, strict=True)}
    with torch.device("meta"):
        small = _pruned_class(folder / MODELLING)(config)
    state = dict(inner.state_dict())
    for path, bits in zip(stack.paths, mask.bits, strict=True):
        state |= _own_keys(state, path, bits.nonzero()[:, 0].tolist(), stack)
    small.load_state_dict(state, strict=True, assign=True)
    small.generation_config = inner.generation_config
    small.config.auto_map = {auto: f"{Path(MODELLING).stem}.PrunedModel" for auto in AUTO_CLASSES}
    _save(model, small.eval(), folder)
    _save_about(model, mask, folder, name)
    share = mask.bits.sum(1).clamp(min=1).sum().item() / (stack.heads * len(stack.paths))
    every, now = (sum(parameter.numel() for parameter in each.parameters()) for each in (inner, small))
    return PrunedSize(int(mask.bits.sum(1).max()), stack.heads, share, now / every)


def _pruned_class(path: Path) -> Any:  # noqa: ANN401
    """The class of a file of `modeling_pruned`, which has another base than the module itself."""
    found = importlib.util.spec_from_file_location(path.stem, path)
    if found is None or found.loader is None:
        raise FileError(f"cannot load {path}")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module.PrunedModel


def _own_keys(state: dict[str, Tensor], path: str, heads: list[int], stack: _Stack) -> dict[str, Tensor]:
    """An attention's weights with some heads, each with a key and value head of its own; zeros where there is none."""
    group = stack.heads // stack.groups
    kept = heads or [0]
    found = {}
    for name, picked in (("q_proj", kept), ("k_proj", [at // group for at in kept]), ("v_proj", [at // group for at in kept])):
        for kind in ("weight", "bias"):
            tensor = state.get(f"{path}.{name}.{kind}")
            if tensor is not None:
                found[f"{path}.{name}.{kind}"] = tensor[_units(picked, stack.width).to(tensor.device)].clone()
    weight = state[f"{path}.o_proj.weight"]
    columns = weight[:, _units(kept, stack.width).to(weight.device)].clone()
    return found | {f"{path}.o_proj.weight": columns if heads else torch.zeros_like(columns)}


def _units(heads: list[int], width: int) -> Tensor:
    """The rows or columns of some heads."""
    return (torch.tensor(heads)[:, None] * width + torch.arange(width)).flatten()
