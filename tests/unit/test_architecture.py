"""The rooms: who may know whom, read from the imports without running anything."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

# A room may import itself and those before it; the root's modules (errors.py) are everybody's.
ROOMS = ("data", "lalm", "mask_bank", "composer", "predictor", "serving", "evaluation", "pocket", "cli")
HEAVY = {"torch", "transformers", "sentence_transformers", "datasets", "accelerate", "sklearn", "scipy", "matplotlib"}
BANNED = {"torchaudio", "torchcodec"}


@dataclass(frozen=True)
class Import:
    """One imported module, absolute (`amask.data.tasks`), and whether importing the file imports it."""

    module: str
    where: str
    relative: bool
    at_import: bool


def _at_import(tree: ast.Module) -> set[ast.AST]:
    """Nodes that run when the module is imported: everything outside functions and `if TYPE_CHECKING`."""
    found: set[ast.AST] = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        found.add(node)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return found


def _imports(path: Path, root: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    early = _at_import(tree)
    package = ("amask", *path.parent.relative_to(root).parts)
    for node in ast.walk(tree):
        where = f"{path.relative_to(root).as_posix()}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, where, False, node in early)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            for alias in node.names:
                # `from . import tasks` imports a module, `from .tasks import TASKS` a name: the longer path tells the room.
                yield Import(f"{module}.{alias.name}", where, bool(node.level), node in early)


@pytest.fixture(scope="module")
def sources(root: Path) -> list[Path]:
    return [*root.glob("*.py"), *(path for room in ROOMS for path in (root / room).rglob("*.py"))]


@pytest.fixture(scope="module")
def imports(sources: list[Path], root: Path) -> list[Import]:
    return [found for path in sources for found in _imports(path, root)]


def _room(parts: tuple[str, ...]) -> int:
    """The room's place in the order; -1 for the root's modules, which all may import.

    `__main__` is the command line's, and `__init__` shows the public names of all rooms.
    """
    if parts and parts[0].startswith(("__main__", "__init__")):
        return len(ROOMS)
    return ROOMS.index(parts[0]) if parts and parts[0] in ROOMS else -1


def test_rooms_import_only_those_above(imports: list[Import]) -> None:
    wrong = []
    for found in imports:
        if found.relative:
            importer, imported = _room(Path(found.where).parts), _room(tuple(found.module.split(".")[1:]))
            if imported > importer:
                wrong.append(f"{found.where} imports {found.module}")
    assert not wrong


def test_between_folders_imports_are_relative(imports: list[Import]) -> None:
    absolute = {*ROOMS, "amask", "errors"}
    wrong = [f"{i.where} imports {i.module}" for i in imports if not i.relative and i.module.split(".")[0] in absolute]
    assert not wrong


def test_banned_libraries(imports: list[Import]) -> None:
    assert not [f"{i.where} imports {i.module}" for i in imports if i.module.split(".")[0] in BANNED]


def test_command_line_imports_nothing_heavy_at_the_top(imports: list[Import]) -> None:
    heavy = [i for i in imports if i.where.startswith("cli/") and i.at_import and i.module.split(".")[0] in HEAVY]
    assert not [f"{i.where} imports {i.module}" for i in heavy], "import it inside the command, so that --help stays quick"


def test_nothing_is_printed_outside_the_command_line(sources: list[Path], root: Path) -> None:
    wrong = []
    for path in sources:
        if path.relative_to(root).parts[0] != "cli":
            calls = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
            prints = [n for n in calls if isinstance(n.func, ast.Name) and n.func.id in {"print", "pprint"}]
            wrong += [f"{path.relative_to(root).as_posix()}:{n.lineno}" for n in prints]
    assert not wrong


def test_every_folder_with_code_has_a_place_in_the_order(root: Path) -> None:
    folders = {path.name for path in root.iterdir() if any(path.glob("*.py"))}
    assert folders <= {*ROOMS, "tests", "benchmarks", "docs"}
