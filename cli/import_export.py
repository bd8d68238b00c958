"""`amask bank import` and `amask bank export`: masks as files, ours and those of others."""

from pathlib import Path
from typing import Annotated

import typer

from .common import BankOption, DeviceOption, JsonOption, err, one_line_errors, open_bank, open_model, out, report

NameArgument = Annotated[str, typer.Argument(help="NAME or NAME@VERSION; or a mask's file, .safetensors or .pth.")]


def import_mask(
    path: Annotated[Path, typer.Argument(help="A mask file: ours, the AHAMask authors' .pth, or HeadsUp's.")],
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
    """Import a mask file into the bank.

    Files of the authors of AHAMask and of HeadsUp (for text models) do not say which weights they were trained on. Without
    --vouch such a mask can be listed, shown, compared and exported, but is never run. A mask of others is the default of its
    name only where there is no other.
    """
    with one_line_errors():
        from ..errors import MaskError
        from ..mask_bank.ahamask_files import default_name, import_ahamask, is_ahamask_file
        from ..mask_bank.files import load_mask

        opened = open_bank(bank)
        spec = opened.parse_task(task) if task else None
        if vouch and (not model or layers or heads):
            raise MaskError("--vouch loads the model that the mask was made for: say which with --model, which tells its heads")
        if is_ahamask_file(path):
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
        report([opened.add(mask, called)], as_json)


def export(
    name: NameArgument,
    path: Annotated[Path, typer.Argument(help="The file to write.")],
    layout: Annotated[
        str | None,
        typer.Option("--format", help="amask (.safetensors) or ahamask (.pth, or HeadsUp's .safetensors); by the ending."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    bank: BankOption = None,
) -> None:
    """Write a mask of the bank to a file."""
    with one_line_errors():
        from ..errors import FileError
        from ..mask_bank.ahamask_files import ENDINGS, export_ahamask
        from ..mask_bank.bank import open_mask
        from ..mask_bank.files import save_mask

        stored = open_mask(name, open_bank(bank))
        layout = layout or ("ahamask" if path.suffix in ENDINGS else "amask")
        try:
            if layout == "ahamask":
                written = export_ahamask(stored, path, exclusive=not force)
            elif layout == "amask":
                save_mask(stored, stored.name, stored.version, path, exclusive=not force)
                written = f"for {stored.identity}"
            else:
                raise FileError(f"unknown format {layout!r}; there are amask and ahamask")
        except FileExistsError:
            raise FileError(f"{path} is there already; choose another name, or replace it with --force") from None
        out.print(f"{stored.spec} written to {path}: {stored.heads_on} of {stored.heads_total} heads on, {written}", markup=False)
