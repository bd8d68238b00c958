"""What is on this machine, and what is wrong with it: versions, devices, models, extras, tools.

A doctor has to work where nothing else does: only the standard library is imported at the top, all else under guard.
The trap that it was made for: torch, when imported, loads every installed backend (entry points `torch.backends`, see
`torch._import_device_backends`) and fails if one of them does, so torch-npu without CANN breaks `import torch` itself.
"""

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from . import __version__

AUTOLOAD = "TORCH_DEVICE_BACKEND_AUTOLOAD"
IMPORT_ERRORS = (ImportError, OSError, RuntimeError, AttributeError, NameError, TypeError, ValueError, LookupError, SystemExit)
"""What libraries raise when they are loaded; old versions of torch-npu end the program."""

# Transformers loads them where they are installed, wanted or not; only some models need them.
OPTIONAL_IMPORTS = ("torchvision", "torchaudio", "torchcodec")
DEVICE_NODES = {"cuda": ("nvidia[0-9]*", "CUDA_VISIBLE_DEVICES"), "npu": ("davinci[0-9]*", "ASCEND_RT_VISIBLE_DEVICES")}
TOOLS = {
    "ffmpeg": "to convert audio that amask does not read",
    "espeak-ng": "only to make the pocket corpus anew",
    "flite": "only to make the pocket corpus anew",
}
WEIGHTS = Path(__file__).parent / "pocket" / "weights" / "model.safetensors"


@dataclass(frozen=True)
class Finding:
    """Something found, or found missing.

    Attributes:
        section: what kind of thing: versions, devices, models, masks, folders, extras, tools.
        name: which.
        text: for people.
        data: for programs; JSON can hold it.
        problem: one line that says what is wrong and what to do; empty where nothing is.
    """

    section: str
    name: str
    text: str
    data: Any = None
    problem: str = ""


def run_checks() -> tuple[Finding, ...]:
    """Look at everything but the bank, which this room does not know."""
    versions = tuple(_versions())
    torch, backends = load_torch()
    devices = tuple(_devices(torch)) if torch else ()
    optional = tuple(_optional_imports()) if torch and not any(finding.problem for finding in backends) else ()
    return *versions, *optional, *backends, *devices, *_models(), *_extras(), *_tools()


def try_call(work: Callable[[], Any]) -> tuple[Any, str]:
    """What some work gives and "", or None and why it failed."""
    try:
        return work(), ""
    except IMPORT_ERRORS as error:
        return None, root_cause(error)


def root_cause(error: BaseException) -> str:
    """The first line of what an error came from in the first place; its type where it says nothing."""
    while error.__cause__:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def load(module: str) -> tuple[ModuleType | None, str]:
    """A module and "", or None and why it cannot be loaded."""
    return try_call(partial(importlib.import_module, module))


def installed(package: str) -> str | None:
    """A package's version; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def format_bytes(count: int) -> str:
    """Bytes for people: `21.3 MB`."""
    power = next((power for power in (1, 2) if count < 1000 ** (power + 1)), 3)
    return f"{count / 1000**power:.1f} {('kB', 'MB', 'GB')[power - 1]}"


def check_folder(name: str, folder: Path, setting: str) -> Finding:
    """Whether a folder can be written to, or made where it is missing.

    Args:
        name: what it is for.
        folder: the folder.
        setting: the environment variable that names another.
    """
    there, why = try_call(lambda: next(path for path in (folder, *folder.absolute().parents) if path.exists()))
    writable = there is not None and there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    reason = why or (f"{there} is no folder" if not there.is_dir() else f"{there} is not writable")
    problem = "" if writable else f"the {name} folder {folder} cannot be written ({reason}); set {setting} to another folder"
    return Finding("folders", name, str(folder), {"path": str(folder), "writable": writable}, problem)


def load_torch() -> tuple[ModuleType | None, list[Finding]]:
    """Torch loaded without its backends, then each of them by itself: torch, and what is broken."""
    asked = os.environ.get(AUTOLOAD)
    os.environ[AUTOLOAD] = "0"
    try:
        torch, why = load("torch")
        if torch is None:
            if not installed("torch"):  # which is said among the versions
                return None, []
            fix = "pip install --force-reinstall torch"
            return None, [Finding("devices", "torch", "broken", None, f"torch cannot be loaded ({why}); {fix}")]
        return torch, list(_backends(asked in (None, "1")))
    finally:
        os.environ.pop(AUTOLOAD, None)  # torch-npu sets it, too
        if asked is not None:
            os.environ[AUTOLOAD] = asked


def _backends(autoload: bool) -> Iterator[Finding]:
    for entry in importlib.metadata.entry_points(group="torch.backends"):
        wanted = autoload or entry.name == "torch_npu"  # transformers loads this one by itself
        if not wanted or entry.module in sys.modules:
            continue
        _, why = try_call(partial(_start, entry))
        if not why:
            continue
        package = (entry.dist.name if entry.dist else entry.name).replace("_", "-")
        fix = f"pip uninstall {package}, or set {AUTOLOAD}=0"
        if entry.name == "torch_npu":
            fix = (
                f"without an Ascend NPU: pip uninstall {package}; with one: install CANN and source its set_env.sh "
                f"({AUTOLOAD}=0 is not enough, transformers loads {package} too)"
            )
        broken = "torch" if autoload else "transformers"
        problem = f"{package} {installed(package)} cannot be loaded ({why}), so {broken} cannot either{_misfit(package)}; {fix}"
        yield Finding("devices", entry.name, "broken", None, problem)


def _start(entry: importlib.metadata.EntryPoint) -> None:
    """What torch does with a backend's entry point."""
    entry.load()()


def _requirements(package: str = "amask", extra: str = "") -> list[Any]:
    """What a package, or one of its extras, requires, as `packaging` reads the package's own metadata."""
    packaging = importlib.import_module("packaging.requirements")
    found = [packaging.Requirement(line) for line in importlib.metadata.requires(package) or ()]
    plain = [each for each in found if not each.marker or each.marker.evaluate({"extra": ""})]
    return [each for each in found if each not in plain and each.marker.evaluate({"extra": extra})] if extra else plain


def _met(requirement: Any) -> bool:  # noqa: ANN401 - packaging may be missing
    version = installed(requirement.name)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _misfit(package: str) -> str:
    """Says so where a package was made for another torch."""
    wanted, _ = try_call(partial(_requirements, package))
    unmet = [each for each in wanted or () if each.name == "torch" and not _met(each)]
    return f"; it is made for torch{unmet[0].specifier}, and {installed('torch')} is installed" if unmet else ""


def _versions() -> Iterator[Finding]:
    yield Finding("versions", "amask", __version__, __version__)
    yield Finding("versions", "python", f"{platform.python_version()} on {platform.platform()}", platform.python_version())
    required, why = try_call(_requirements)
    if required is None:
        problem = f"what amask requires is unknown ({why}); pip install --force-reinstall amask"
        yield Finding("versions", "requirements", "unknown", None, problem)
    for each in sorted(required or (), key=lambda each: (each.name != "torch", each.name.lower())):
        version = installed(each.name)
        wanted = f"{each.name}{each.specifier}"
        problem = "" if _met(each) else f"{each.name} is {version or 'missing'}; amask needs {wanted}: pip install '{wanted}'"
        yield Finding("versions", each.name, version or "missing", version, problem)


def _optional_imports() -> Iterator[Finding]:
    broken = False
    for name in OPTIONAL_IMPORTS:
        version = installed(name)
        if version is None:
            continue
        _, why = load(name)
        broken = broken or bool(why)
        fix = f"install the one for torch {installed('torch')}, or, as only some models need it: pip uninstall {name}"
        problem = f"{name} {version} cannot be loaded ({why}){_misfit(name)}; {fix}" if why else ""
        yield Finding("versions", name, version, version, problem)
    _, why = load("transformers.modeling_utils")
    if why and not broken and installed("transformers"):
        problem = f"transformers cannot be loaded ({why}); pip install --force-reinstall transformers"
        yield Finding("versions", "transformers", "broken", installed("transformers"), problem)


def _devices(torch: ModuleType) -> Iterator[Finding]:
    memory, _ = try_call(lambda: os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))  # Windows has no sysconf
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads, total = torch.get_num_threads(), format_bytes(memory) if memory else "unknown"
    text = f"{platform.machine()}, cores: {cores}, torch's threads: {threads}, memory: {total}"
    yield Finding("devices", "cpu", text, {"cores": cores, "threads": threads, "bytes": memory})
    for kind in DEVICE_NODES:
        cards, why = try_call(partial(_cards, torch, kind))
        if why:
            yield Finding(
                "devices", kind, "broken", None, f"torch cannot tell which {kind} cards there are: {why}; check their driver"
            )
        elif cards:
            yield from cards
        else:
            yield Finding("devices", kind, "none", None, _idle(torch, kind))


def _cards(torch: ModuleType, kind: str) -> list[Finding]:
    module = getattr(torch, kind, None)
    if module is None or not module.is_available():
        return []
    findings = []
    for at in range(module.device_count()):
        name, memory = module.get_device_name(at), module.get_device_properties(at).total_memory
        findings.append(Finding("devices", f"{kind}:{at}", f"{name}, {format_bytes(memory)}", {"name": name, "bytes": memory}))
    return findings


def _idle(torch: ModuleType, kind: str) -> str:
    """A problem where the system has cards that torch does not use and nobody has hidden them."""
    pattern, hiding = DEVICE_NODES[kind]
    if hiding in os.environ or not any(Path("/dev").glob(pattern)):
        return ""
    fix = "install torch's CUDA build that suits the driver (https://pytorch.org)"
    if kind == "npu":
        fix = "see what npu-smi info says, and source CANN's set_env.sh" if installed("torch-npu") else "pip install 'amask[npu]'"
    return f"there is a {kind} card, but torch {torch.__version__} does not see it; {fix}, or set {hiding}= to disable it"


def _models() -> Iterator[Finding]:
    if WEIGHTS.exists():
        count = WEIGHTS.stat().st_size
        yield Finding(
            "models", "pocket", f"{format_bytes(count)}, comes with amask", {"bytes": count, "path": str(WEIGHTS.parent)}
        )
    else:
        yield Finding(
            "models", "pocket", "missing", None, "the pocket model's weights are missing; pip install --force-reinstall amask"
        )
    hub, _ = load("huggingface_hub")
    settings, _ = load("huggingface_hub.constants")
    folder = Path(settings.HF_HUB_CACHE) if settings else Path()
    if not hub or not settings or not folder.exists():
        return
    cache, why = try_call(partial(hub.scan_cache_dir, folder))
    if why:
        yield Finding(
            "models", "Hugging Face cache", "unreadable", None, f"cannot read {folder}: {why}; set HF_HOME to another folder"
        )
        return
    for repo in sorted(cache.repos, key=lambda repo: repo.repo_id):
        if repo.repo_type == "model":
            data = {"bytes": repo.size_on_disk, "path": str(repo.repo_path)}
            yield Finding("models", repo.repo_id, f"{format_bytes(repo.size_on_disk)}, in the Hugging Face cache", data)


def _extras() -> Iterator[Finding]:
    named, _ = try_call(lambda: importlib.metadata.metadata("amask").get_all("Provides-Extra"))
    for extra in named or ():
        wanted, _ = try_call(partial(_requirements, "amask", extra))
        if wanted is None:
            continue
        missing = [f"{each.name}{each.specifier}" for each in wanted if not _met(each)]
        text = "installed"
        if missing:
            text = f"not installed: pip install 'amask[{extra}]'"
            text = text if len(missing) == len(wanted) else f"without {', '.join(missing)}: pip install 'amask[{extra}]'"
        yield Finding("extras", extra, text, {"installed": not missing, "missing": missing})


def _tools() -> Iterator[Finding]:
    for name, use in TOOLS.items():
        path = shutil.which(name)
        yield Finding("tools", name, f"{path or 'not found'}; {use}", {"path": path, "use": use})
