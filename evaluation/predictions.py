"""Predictions on disk: what a model answered, kept before it is scored, so that scoring again needs no model."""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Literal

import pydantic
from pydantic.dataclasses import dataclass

from ..errors import DataError, FileError

Condition = Literal["mask", "prompt", "unprompted", "random", "other"]
CONDITIONS: tuple[Condition, ...] = ("mask", "prompt", "unprompted", "random", "other")


@dataclass(frozen=True, slots=True, kw_only=True, config=pydantic.ConfigDict(extra="forbid"))
class Prediction:
    """One answer to one clip.

    Attributes:
        path: the clip.
        task: the task's name, such as `gr` or `gr-asr-json`.
        condition: its mask, a prompt, unprompted (no mask and no prompt: all heads on), a random mask, or another task's mask.
        mask: the mask's name and version, where it has one; of a control, that of the mask that it is held against.
        wording: the prompt, the seed of a random mask, or the name of another task's mask; empty where there is none.
        answer: as `amask run` gives it: the likeliest label, or an answer held to the task's form.
        unconstrained: what the model says held to nothing; None where nothing holds `answer` either, or where it was not asked.
        reference: what is right.
        speaker: whose clip it is, where that is known.
        truncated: whether the unconstrained answer, or else the answer, was cut off at the limit of tokens.
        likelihoods: of each of two labels, normalised over both.
    """

    path: str
    task: str
    condition: Condition
    mask: str = ""
    wording: str = ""
    answer: str
    unconstrained: str | None = None
    reference: str
    speaker: str = ""
    truncated: bool = False
    likelihoods: dict[str, float] | None = None


_READER: pydantic.TypeAdapter[Prediction] = pydantic.TypeAdapter(Prediction)


_EMPTY = {"mask": "", "wording": "", "unconstrained": None, "speaker": "", "truncated": False, "likelihoods": None}


def to_line(prediction: Prediction) -> str:
    """One line of JSON, without what has its default."""
    row = {name: getattr(prediction, name) for name in Prediction.__slots__}
    kept = {name: value for name, value in row.items() if name not in _EMPTY or value != _EMPTY[name]}
    return json.dumps(kept, ensure_ascii=False) + "\n"


class PredictionLog:
    """A new JSONL file that predictions are added to as they are made; a file that is there already is never touched.

    Args:
        path: the file.

    Raises:
        DataError: it is there already.
        FileError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = _create(path)
        except FileExistsError:
            raise DataError(f"{path} is there already, and predictions are never written over; choose another file") from None

    @classmethod
    def numbered(cls, folder: Path) -> "PredictionLog":
        """In a folder, under the number after the last one there: `0001.jsonl`; of several processes each gets its own.

        Raises:
            FileError: it cannot be written.
        """
        number = max((int(path.stem) for path in folder.glob("*.jsonl") if path.stem.isdecimal()), default=0)
        while True:
            number += 1
            try:
                return cls(folder / f"{number:04d}.jsonl")
            except DataError:  # another process took this number
                continue

    def add(self, predictions: Iterable[Prediction]) -> None:
        """Write predictions, so that they are on disk when this returns.

        Raises:
            FileError: the disk is full or gone.
        """
        try:
            self._file.writelines(map(to_line, predictions))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise FileError(f"cannot write predictions {self.path}: {error.strerror or error}; free some room") from None

    def __enter__(self) -> "PredictionLog":
        """For `with`."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the file, which stays."""
        with suppress(OSError):  # `add` has said what was wrong, and all else is on disk
            self._file.close()


def _create(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Bytes of a path that are no UTF-8 are lone surrogates in Python; backslashreplace makes JSON escapes of them.
        return path.open("x", encoding="utf-8", errors="backslashreplace", newline="\n")
    except FileExistsError:
        if path.exists():
            raise
        raise FileError(f"cannot write predictions {path}: a file is where a folder should be; choose another place") from None
    except OSError as error:
        raise FileError(f"cannot write predictions {path}: {error.strerror or error}; choose another place") from None


def _from_line(line: str, where: str) -> Prediction:
    try:
        return _READER.validate_python(json.loads(line))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "line"
        raise DataError(f"{where}: {field}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON: {error}") from None


def read(path: Path) -> list[Prediction]:
    """Read the predictions of a file.

    Raises:
        DataError: the file is missing, empty or malformed; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read predictions {path}: {getattr(error, 'strerror', None) or error}") from None
    # Not splitlines: an answer may hold other line separators of Unicode.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise DataError(f"{path} has no predictions")
    return [_from_line(line, f"{path}, line {number}") for number, line in lines]
