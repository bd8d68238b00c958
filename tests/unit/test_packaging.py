"""The wheel holds the whole package and nothing else: pyproject's lists against the folders."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

NOT_SHIPPED = {"tests", "benchmarks", "docs", "pocket/corpus", "pocket/making"}


@pytest.fixture(scope="module")
def project(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tested(root: Path) -> dict[str, str]:
    """Distribution → version, as pinned by constraints.txt."""
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pin) == 2 for pin in pins), "constraints.txt holds name==version only"
    return {_normal(name): version for name, version in pins}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _rooms(root: Path) -> list[Path]:
    """The root's folders with code."""
    return [path for path in root.iterdir() if path.is_dir() and any(path.glob("*.py")) and _ships(path, root)]


def _ships(path: Path, root: Path) -> bool:
    where = path.relative_to(root).as_posix() + "/"
    return not any(where.startswith(f"{folder}/") for folder in NOT_SHIPPED)


def _folder(root: Path, package: str) -> Path:
    return root.joinpath(*package.split(".")[1:])


def _files(root: Path) -> set[Path]:
    """Files of the rooms, without caches and hidden ones."""
    found = {path for room in _rooms(root) for path in room.rglob("*") if path.is_file()}
    shown = {p for p in found if not any(part.startswith((".", "__pycache__")) for part in p.relative_to(root).parts)}
    return {path for path in shown if _ships(path, root)}


def _requirements(project: dict) -> list[Requirement]:
    """Of the package and its extras, without those that name other extras of its own."""
    extras = project["project"]["optional-dependencies"].values()
    found = [Requirement(line) for line in [*project["project"]["dependencies"], *(line for extra in extras for line in extra)]]
    return [requirement for requirement in found if requirement.name != "amask"]


def test_packages_are_the_folders_with_code(root: Path, project: dict) -> None:
    listed = project["tool"]["setuptools"]["packages"]
    found = {"amask"} | {".".join(("amask", *p.parent.relative_to(root).parts)) for p in _files(root) if p.name == "__init__.py"}
    assert len(listed) == len(set(listed))
    assert set(listed) == found


def test_code_lies_in_packages(root: Path) -> None:
    folders = {path.parent for path in _files(root) if path.suffix == ".py"}
    outside = {folder.relative_to(root).as_posix() for folder in folders if not (folder / "__init__.py").exists()}
    assert not outside, "folders with code need an __init__.py"


def test_each_data_pattern_matches(root: Path, project: dict) -> None:
    patterns = project["tool"]["setuptools"]["package-data"]
    empty = [(pkg, p) for pkg, some in patterns.items() for p in some if not any(f.is_file() for f in _folder(root, pkg).glob(p))]
    assert not empty


def test_each_data_file_ships(root: Path, project: dict) -> None:
    patterns = project["tool"]["setuptools"]["package-data"]
    shipped = {f for package, some in patterns.items() for pattern in some for f in _folder(root, package).glob(pattern)}
    left = {p.relative_to(root).as_posix() for p in _files(root) - shipped if p.suffix != ".py"}
    assert not left, "package-data in pyproject.toml does not cover these"


def test_versions_agree() -> None:
    import amask

    assert importlib.metadata.version("amask") == amask.__version__, "install again: pip install -e '.[dev]'"


def test_the_root_is_imported_as_amask_only(root: Path) -> None:
    """No folder of the root (data, cli) is found as a library of its own, and none stands in for another library."""
    import amask

    assert Path(amask.__file__).parent == root, "this is another amask; install this checkout: pip install -e '.[dev]'"
    rooms = {room.name for room in _rooms(root)} | {path.stem for path in root.glob("*.py")} - {"__init__", "__main__"}
    own = {name for name in rooms if Path(getattr(sys.modules.get(name), "__file__", None) or "/").is_relative_to(root / name)}
    assert not own


def test_command_exists(root: Path, project: dict) -> None:
    module, name = project["project"]["scripts"]["amask"].split(":")
    tree = ast.parse(_folder(root, module).with_suffix(".py").read_text(encoding="utf-8"))
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    assert name in {target.id for target in targets if isinstance(target, ast.Name)}


def test_tested_versions_are_allowed(project: dict, tested: dict[str, str]) -> None:
    for requirement in _requirements(project):
        version = tested.get(_normal(requirement.name))
        if version is None:
            assert requirement.name == "torch-npu", f"constraints.txt does not pin {requirement.name}"
        else:
            assert requirement.specifier.contains(version), f"{requirement} excludes the tested {version}"


def test_imported_libraries_are_required(root: Path, project: dict) -> None:
    required = {_normal(requirement.name) for requirement in _requirements(project)}
    providers = importlib.metadata.packages_distributions()
    missing = set()
    for path in [p for p in [*root.glob("*.py"), *_files(root)] if p.suffix == ".py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for top in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"amask"}:
                if not required & {_normal(name) for name in providers.get(top, [top])}:
                    missing.add((top, path.relative_to(root).as_posix()))
    assert not missing, "imported, but pyproject.toml does not require it"


def test_extras_name_their_libraries(project: dict) -> None:
    """Each library that is asked for by `import_extra` is in the extra that its message names, and in no plain requirement."""
    from amask.data.extras import EXTRAS

    extras, plain = project["project"]["optional-dependencies"], project["project"]["dependencies"]
    providers = importlib.metadata.packages_distributions()
    for library, extra in EXTRAS.items():
        names = {_normal(name) for name in providers.get(library, [library])}
        assert names & {_normal(Requirement(line).name) for line in extras[extra]}, library
        assert not names & {_normal(Requirement(line).name) for line in plain}, library
    for extra, lines in extras.items():
        names = [Requirement(line).name.lower() for line in lines]
        assert names == sorted(names), f"{extra}: one package a line, sorted"


def test_rooms_that_ship_do_not_need_those_that_do_not(root: Path) -> None:
    """The pocket model is made in a checkout; what runs from a wheel imports nothing of its making."""
    for path in [p for p in _files(root) if p.suffix == ".py" and p.relative_to(root).parts[0] != "pocket"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert not re.match(r"pocket\.(corpus|making)\b", node.module or ""), path
