"""What the pages name is there: files of the repository, and options of the commands."""

import re
from pathlib import Path

import pytest

LOG = "LOG.md"  # what was tried, with the names of its day
LAUNCHERS = {"--num_processes", "--nproc_per_node", "--head", "--address"}  # of accelerate, torchrun, and Ray


def _pages(root: Path) -> list[Path]:
    return [root / "README.md", *(path for path in sorted((root / "docs").glob("*.md")) if path.name != LOG)]


@pytest.mark.parametrize("pattern", [r"`([a-z_]+(?:/[a-z_]+)+\.(?:py|toml))`", r"\]\(((?!https?:)[^)#]+)\)"])
def test_files_that_pages_name_are_there(root: Path, pattern: str) -> None:
    missing = set()
    for page in _pages(root):
        for name in re.findall(pattern, page.read_text(encoding="utf-8")):
            if not any((folder / name).exists() for folder in (page.parent, root)):
                missing.add(f"{page.name}: {name}")
    assert not missing


def test_options_that_pages_name_are_there(root: Path) -> None:
    import typer

    from amask.cli.main import app

    def options(command: object) -> set[str]:
        own = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        return own.union(*(options(each) for each in getattr(command, "commands", {}).values()))

    known = options(typer.main.get_command(app)) | {"--help"} | LAUNCHERS
    scripts = [*root.glob("benchmarks/*.py"), *root.glob("pocket/*.py"), *root.glob("predictor/making/*.py")]
    known |= {option for path in scripts for option in re.findall(r'"(--[a-z-]+)"', path.read_text(encoding="utf-8"))}
    named = {
        (page.name, option)
        for page in _pages(root)
        for option in re.findall(r"(?<![\w-])--[a-z][a-z_-]+", page.read_text(encoding="utf-8"))
    }
    assert not sorted((page, option) for page, option in named if option not in known)
