"""`amask doctor`: what is installed, and what is wrong with it."""

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from .common import BankOption, JsonOption, one_line_errors, out
from .output_encoding import echo

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..doctor import Finding


def doctor(bank: BankOption = None, as_json: JsonOption = False) -> None:
    """Say what is installed, which devices, models and masks there are, and what is wrong; exits with 1 if anything is."""
    with one_line_errors():
        from ..doctor import run_checks

        with redirect_stdout(sys.stderr):  # some libraries talk while they are loaded
            findings = [*run_checks(), *_masks(bank), *_folders(bank)]
        problems = [" ".join(finding.problem.split()) for finding in findings if finding.problem]
        if as_json:
            echo(json.dumps(_tree(findings) | {"problems": problems, "ok": not problems}, ensure_ascii=False))
        else:
            _show(findings, problems)
        if problems:
            raise typer.Exit(1)


def _masks(folder: Path | None) -> "Iterator[Finding]":
    """The bundled bank and the user's; none where what they need is broken, which others say."""
    from ..doctor import Finding, load
    from ..errors import BankError

    module, _ = load("amask.mask_bank.bank")
    if module is None:
        return
    for name, root in (("bundled", module.BUNDLED), ("your bank", folder or module.default_folder())):
        try:
            opened = module.MaskBank(root)
            count, damaged = len(opened.list()), [problem for _, problem in opened.verify()]
        except BankError as error:
            yield Finding("masks", name, "unreadable", None, str(error))
            continue
        if name == "bundled" and not count:
            damaged.append("the bundled masks are missing; pip install --force-reinstall amask")
        data = {"masks": count, "damaged": len(damaged), "path": str(root)}
        yield Finding("masks", name, f"{count} masks in {root}", data, "; ".join(damaged))


def _folders(bank: Path | None) -> "Iterator[Finding]":
    """Where amask writes: the bank, and what it keeps to be quicker the next time."""
    from ..doctor import check_folder, load

    banks, _ = load("amask.mask_bank.bank")
    caches, _ = load("amask.data.cache")
    if banks is not None:
        yield check_folder("bank", bank or banks.default_folder(), "AMASK_BANK")
    if caches is not None:
        yield check_folder("cache", caches.cache_folder(), "AMASK_CACHE")


def _tree(findings: "Sequence[Finding]") -> dict[str, dict]:
    tree: dict[str, dict] = {}
    for finding in findings:
        tree.setdefault(finding.section, {})[finding.name] = finding.data
    return tree


def _show(findings: "Sequence[Finding]", problems: list[str]) -> None:
    """Columns of our own: rich would fold long paths where stdout is no terminal."""
    wide = max(len(finding.name) for finding in findings)
    before = ""
    for finding in findings:
        section = finding.section if finding.section != before else ""
        out.print(f"{section:<9} {finding.name:<{wide}}  {finding.text}", style="red" if finding.problem else None, markup=False)
        before = finding.section
    for problem in problems:
        out.print(f"problem: {problem}", style="red", markup=False)
    if not problems:
        out.print("no problems found")
