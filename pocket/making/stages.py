"""Stages with stamps: each runs only when its settings, its code's version or an earlier stage's result has changed."""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .loop import Log


@dataclass(frozen=True)
class Stage:
    """One step of the making.

    Attributes:
        name: also of its folder.
        version: of its code; to be raised when the same settings give another result.
        settings: all that decides its result beside earlier stages.
        run: makes everything in the stage's folder; goes on where an earlier run with the same stamp was stopped.
        keeps: it finds out by itself which of its files still hold, so they stay where they are when its inputs change.
    """

    name: str
    version: int
    settings: object
    run: Callable[[Path], None]
    keeps: bool = False


def hash_json(content: object) -> str:
    """A hash of what can be written as JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def hash_folder(folder: Path) -> str:
    """A hash of the names and bytes of all files in a folder, but for stamps and checkpoints (`*.pt`)."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix not in (".pt", ".stamp"))
    return hash_json([(path.relative_to(folder).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files])


def run_stages(stages: Sequence[Stage], folder: Path, log: Log, until: str = "") -> None:
    """Run the stages in order, each in a folder of its name; those whose stamp says that nothing changed are skipped.

    A stage that begins leaves `begun.stamp` with its inputs: what an earlier run with other inputs left is then never
    gone on with (its files are set aside as `NAME.before`, since they may have taken hours), and one that was stopped goes on.

    Args:
        stages: each may read the folders of those before it.
        folder: where their folders are.
        log: told what is run and what is skipped.
        until: name of the last stage to run; "" for all.
    """
    results: list[str] = []
    for stage in stages:
        own = folder / stage.name
        inputs = hash_json([stage.name, stage.version, stage.settings, results])
        done, begun = own / "done.stamp", own / "begun.stamp"
        stamp = json.loads(done.read_text(encoding="utf-8")) if done.exists() else {}
        if stamp.get("inputs") == inputs:
            log(f"{stage.name}: nothing changed")
        else:
            if not (begun.exists() and begun.read_text(encoding="utf-8") == inputs):
                if not stage.keeps:
                    _set_aside(own)
                own.mkdir(parents=True, exist_ok=True)
                begun.write_text(inputs, encoding="utf-8")
            log(f"{stage.name}: begins")
            stage.run(own)
            stamp = {"inputs": inputs, "result": hash_folder(own)}
            done.write_text(json.dumps(stamp), encoding="utf-8")
            log(f"{stage.name}: done")
        results.append(stamp["result"])
        if stage.name == until:
            return


def _set_aside(folder: Path) -> None:
    """Rename a folder to `NAME.before`; what was set aside earlier is removed."""
    if folder.exists():
        before = folder.with_name(f"{folder.name}.before")
        shutil.rmtree(before, ignore_errors=True)
        folder.rename(before)
