"""`amask bank import` and `amask bank export`: masks as files, ours and those of others."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import (
    BankOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    err,
    note,
    one_line_errors,
    open_bank,
    open_model,
    out,
    print_added,
)

if TYPE_CHECKING:
    from ..lalm.base import LALM
    from ..mask_bank.files import StoredMask

NameArgument = Annotated[str, typer.Argument(help="NAME or NAME@VERSION; or a mask's file, .safetensors or .pth.")]


def import_mask(
    path: Annotated[Path, typer.Argument(help="A mask file: ours, the AHAMask authors' .pth, or HeadsUp's; or PEFT's folder.")],
    name: Annotated[str | None, typer.Option(help="Name in the bank; the file's, the task's or the folder's by default.")] = None,
    task: Annotated[str | None, typer.Option(help="What the mask triggers.")] = None,
    layers: Annotated[int | None, typer.Option(min=1, help="Layers of the model, where the file's size does not tell.")] = None,
    heads: Annotated[int | None, typer.Option(min=1, help="Heads a layer; the file's size tells them from the layers.")] = None,
    model: Annotated[
        str, typer.Option(help="The model that the mask belongs to: a name or, with --vouch, what to load; salmonn if 40×40.")
    ] = "",
    vouch: Annotated[bool, typer.Option("--vouch", help="Load the model and vouch that the mask was made for it.")] = False,
    device: DeviceOption = "auto",
    bank: BankOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import a mask file, or an IA3 adapter folder of PEFT that is a head mask, into the bank.

    Files of the authors of AHAMask and of HeadsUp (for text models) do not say which weights they were trained on. Without
    --vouch such a mask can be listed, shown, compared and exported, but is never run. A mask of others is the default of its
    name only where there is no other.
    """
    with one_line_errors():
        from ..errors import MaskError
        from ..mask_bank.adapters import import_peft, is_adapter
        from ..mask_bank.ahamask_files import default_name, import_ahamask, is_ahamask_file
        from ..mask_bank.files import load_mask

        opened = open_bank(bank)
        spec = opened.parse_task(task) if task else None
        if vouch and (not model or layers or heads):
            raise MaskError("--vouch loads the model that the mask was made for: say which with --model, which tells its heads")
        if is_adapter(path):
            loaded = open_model(model, device) if vouch else None
            mask = import_peft(path, loaded.identity if loaded else None, spec, model, heads)
            called = name or mask.task_name or path.absolute().name.lower()
        elif is_ahamask_file(path):
            loaded = open_model(model, device) if vouch else None
            geometry, fingerprint = (loaded.geometry, loaded.fingerprint) if loaded else (None, None)
            mask, note = import_ahamask(path, geometry, spec, model, fingerprint, (layers, heads))
            called = name or mask.task_name or default_name(path)
            err.print(f"amask: {note}", style="yellow", markup=False)
        else:
            stored = load_mask(path)
            if model or vouch or layers or heads:
                raise MaskError(f"{path} says that it is for {stored.identity}; give it no options but --name and --task")
            renamed = spec is not None and spec.name != stored.task_name  # its scores are of another task then
            mask, called = stored.with_(task=spec, scores={}) if renamed else stored, name or stored.name
        print_added([opened.add(mask, called)], as_json)


class Format(StrEnum):
    """What `amask bank export` writes."""

    safetensors = "safetensors"
    ahamask = "ahamask"
    peft = "peft"
    lora = "lora"
    folded = "folded"
    pruned = "pruned"


FILES = (Format.safetensors, Format.ahamask)  # the others are folders, and need the mask's model


def export(
    name: NameArgument,
    path: Annotated[Path | None, typer.Argument(help="The file or folder to write; NAME-FORMAT by default.")] = None,
    layout: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="safetensors (amask's own); ahamask (.pth, or HeadsUp's .safetensors); peft: an (IA)³ adapter; folded: the "
            "masked model whole; pruned: a smaller checkpoint; lora. By the ending of PATH where it tells, else safetensors.",
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="The mask's model, for the formats that need it; by default as the mask calls it.")
    ] = "",
    max_rank: Annotated[
        int | None, typer.Option(min=1, help="lora: cut to this rank by singular values, no longer exact.")
    ] = None,
    remote_code: Annotated[
        bool, typer.Option("--remote-code", help="pruned: each layer keeps its own heads, with the file that loads it.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an export that is there.")] = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    bank: BankOption = None,
) -> None:
    """Write a mask of the bank for amask, for PEFT, transformers and engines that load their checkpoints (docs/exporting.md)."""
    with one_line_errors():
        from ..errors import FileError
        from ..mask_bank.ahamask_files import ENDINGS, export_ahamask
        from ..mask_bank.bank import open_mask
        from ..mask_bank.files import save_mask

        stored = open_mask(name, open_bank(bank))
        kind = layout or (Format.ahamask if path and path.suffix in ENDINGS else Format.safetensors)
        if max_rank is not None and kind is not Format.lora:
            raise FileError(f"--max-rank is for --format lora, not for {kind}")
        if remote_code and kind is not Format.pruned:
            raise FileError(f"--remote-code is for --format pruned, not for {kind}")
        ending = {Format.safetensors: ".safetensors", Format.ahamask: ".pth"}.get(kind, f"-{kind}")
        path = path or Path(f"{stored.name}{ending}")
        try:
            if kind is Format.ahamask:
                written = export_ahamask(stored, path, exclusive=not force)
            elif kind is Format.safetensors:
                save_mask(stored, stored.name, stored.version, path, exclusive=not force)
                written = f"for {stored.identity}"
            else:
                loaded = open_model(model or stored.identity.name, device, dtype)
                written = _export_folder(stored, kind, path, loaded, max_rank, remote_code, force)
        except FileExistsError:
            raise FileError(f"{path} is there already; choose another name, or replace it with --force") from None
        out.print(f"{stored.spec} written to {path}: {stored.heads_on} of {stored.heads_total} heads on, {written}", markup=False)


def _export_folder(
    stored: "StoredMask", kind: Format, path: Path, model: "LALM", max_rank: int | None, remote_code: bool, force: bool
) -> str:
    """Write a folder; what it costs or gains is said before the work."""
    from ..mask_bank import adapters, cards, exporting

    stored.require(model)
    if kind is Format.lora:
        lora = adapters.lora_size(model, stored, max_rank)
        note(f"exact at rank {lora.exact}; writing rank {lora.rank}, {lora.bytes / 2**20:.1f} MiB")
    elif kind is Format.pruned and not remote_code:
        note(f"{exporting.pruned_size(model, stored)} (most masks gain little so; --format folded has the same answers)")
    with exporting.new_folder(path, force=force) as folder:
        if kind is Format.peft:
            written = adapters.export_peft(model, stored, folder, stored.name)
        elif kind is Format.lora:
            done = adapters.export_lora(model, stored, folder, stored.name, max_rank)
            lost = f", which leaves out up to {100 * done.lost:.1f} % of a layer's update" if done.lost else ", exact"
            written = f"a LoRA of rank {done.rank}{lost}"
        elif kind is Format.folded:
            written = exporting.export_folded(model, stored, folder, stored.name)
        elif remote_code:
            size = exporting.export_remote_code(model, stored, folder, stored.name)
            written = f"{100 * size.weights:.0f} % of the model's weights; loads with trust_remote_code=True"
        else:
            written = str(exporting.export_pruned(model, stored, folder, stored.name))
        cards.write_readme(stored, kind.value, folder)
    return written
