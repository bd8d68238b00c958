"""Predictions on disk: what a model answered, kept before it is scored, so that scoring again needs no model."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import pydantic

from ..data.files import write_whole
from ..errors import DataError

How = Literal["mask", "prompt", "none", "random"]


class Prediction(pydantic.BaseModel):
    """One answer to one clip.

    Attributes:
        path: the clip.
        task: the task's name, such as `gr` or `gr-asr-json`.
        how: what made the model do it: its mask, a prompt, nothing at all, or a random mask.
        wording: the prompt; empty where there is none.
        answer: what the model said, as it said it.
        reference: what is right.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    path: str
    task: str
    how: How
    wording: str = ""
    answer: str
    reference: str


def write(predictions: Iterable[Prediction], path: Path) -> None:
    """Write predictions as JSONL, one a line; the file appears whole or not at all.

    Raises:
        FileError: the file cannot be written.
    """
    lines = "".join(json.dumps(prediction.model_dump(), ensure_ascii=False) + "\n" for prediction in predictions)
    # Bytes of a path that are no UTF-8 are lone surrogates in Python; backslashreplace makes JSON escapes of them.
    write_whole(lines.encode("utf-8", errors="backslashreplace"), path, parents=True)


def _from_line(line: str, where: str) -> Prediction:
    try:
        return Prediction.model_validate(json.loads(line))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "line"
        raise DataError(f"{where}: {field}: {first['msg']}") from None
    except ValueError as error:
        raise DataError(f"{where}: not JSON: {error}") from None


def read(path: Path) -> list[Prediction]:
    """Read predictions that `write` has written.

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
