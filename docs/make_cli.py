"""Write docs/cli.md from the commands' own help: `python docs/make_cli.py`."""

# ruff: noqa: ANN401 - typer carries click's classes within itself
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from amask.cli.main import app

PAGE = Path(__file__).with_name("cli.md")
START = """# The command line

Written by `python docs/make_cli.py` from the commands themselves; a test compares it. Results go to stdout (pure JSON with
`--json`), everything else to stderr; errors are one line and the exit status is not 0.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([START, *_entries(typer.main.get_command(app), "amask")])


def _entries(command: Any, name: str) -> Iterator[str]:
    """A command's entry, or those of its sub-commands."""
    if hasattr(command, "commands"):
        for sub_name, sub in sorted(command.commands.items()):
            if not sub.hidden:
                yield from _entries(sub, f"{name} {sub_name}")
        return
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
    usage = " ".join([name, *("[OPTIONS]" for _ in options[:1]), *(_usage(each) for each in arguments)])
    yield f"## {name}\n\n```\n{usage}\n```\n"
    yield inspect.cleandoc(command.help or "") + "\n"
    rows = [(f"`{_usage(each)}`", getattr(each, "help", "") or "", "") for each in arguments]
    rows += [(_spelled(each), each.help or "", _default(each)) for each in options]
    if rows:
        cells = ["| | | default |", "|---|---|---|", *(f"| {' | '.join(_cell(text) for text in row)} |" for row in rows)]
        yield "\n".join(cells) + "\n"


def _usage(argument: Any) -> str:
    name = (argument.metavar or argument.name or "").strip("[]").upper()
    return f"{name}…" if argument.nargs == -1 else name


def _spelled(option: Any) -> str:
    """`--long [refuse|trim|split]`."""
    names = ", ".join(f"`{each}`" for each in (*option.opts, *option.secondary_opts))
    return names if option.is_flag else f"{names} `{_kind(option)}`"


def _kind(option: Any) -> str:
    """`TEXT`, `INTEGER`, `PATH`."""
    named = {str: "TEXT", int: "INTEGER", float: "FLOAT", Path: "PATH"}
    return str(option.metavar or named.get(option.type_descriptor.annotation, "TEXT"))


def _default(option: Any) -> str:
    default = option.default
    return "" if option.is_flag or default is None or callable(default) or str(default) == "" else f"`{default}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page().rstrip() + "\n", encoding="utf-8")
