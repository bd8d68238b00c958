"""`amask bank push` and `amask bank pull`: masks on the Hugging Face Hub."""

from typing import Annotated

import typer

from .common import BankOption, DeviceOption, JsonOption, note, one_line_errors, open_bank, open_model, out, print_added

RepoArgument = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository on the Hub.")]


def push(
    names: Annotated[list[str], typer.Argument(metavar="NAME… OWNER/NAME", help="Masks of the bank, and last the repository.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    peft: Annotated[bool, typer.Option("--peft/--no-peft", help="Add PEFT's files, for which the model is loaded.")] = True,
    model: Annotated[str, typer.Option(help="The masks' model; by default as they call it.")] = "",
    device: DeviceOption = "auto",
    bank: BankOption = None,
) -> None:
    """Push masks of the bank into a repository of the Hub: one at its top, several in folders of their names."""
    with one_line_errors():
        from ..errors import BankError
        from ..mask_bank import hub
        from ..mask_bank.bank import open_mask

        *specs, repo = names
        if not specs:
            raise BankError("name a mask and a repository: amask bank push gr OWNER/NAME")
        hub.check_repo(repo)
        opened = open_bank(bank)
        masks = [open_mask(spec, opened) for spec in specs]
        loaded = open_model(model or masks[0].identity.name, device) if peft else None
        out.print(hub.push(masks, repo, model=loaded, private=private), markup=False)


def pull(
    repo: RepoArgument,
    name: Annotated[list[str] | None, typer.Option(help="Only this mask; may come several times.")] = None,
    revision: Annotated[str | None, typer.Option(help="A branch, tag or commit.")] = None,
    model: Annotated[str, typer.Option(help="Load this model, and refuse masks that are not for it.")] = "",
    device: DeviceOption = "auto",
    bank: BankOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pull the masks of a repository into the bank; each file is checked as an import is."""
    with one_line_errors():
        from ..mask_bank import hub

        opened = open_bank(bank)
        loaded = open_model(model, device) if model else None
        found = hub.pull(repo, revision=revision, model=loaded, names=name or ())
        revision = found[0].stored.lineage["pulled"]["revision"]
        note(f"pulled {', '.join(mask.name for mask in found)} from {repo}, revision {revision}")
        print_added([opened.add(mask.stored.with_(), mask.name) for mask in found], as_json)
