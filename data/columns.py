"""Columns of other people's manifests and data sets as labels: every column under its own name, usual ones also by task."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

# Columns that many data sets have → the built-in task that they are labels of. A column that is called like a task comes first.
COLUMNS = {
    "text": "asr",
    "transcription": "asr",
    "transcript": "asr",
    "sentence": "asr",
    "gender": "gr",
    "sex": "gr",
    "emotion": "ser",
    "caption": "aac",
    "translation": "s2tt",
}
GENDERS = {
    **dict.fromkeys(("female", "f", "woman", "feminine", "female_feminine"), "female"),
    **dict.fromkeys(("male", "m", "man", "masculine", "male_masculine"), "male"),
}


def names_of(columns: Iterable[str]) -> dict[str, str]:
    """Label's name → the column that it comes from; `text` is a label by itself only beside a column `asr`."""
    there = list(columns)
    usual = {task: column for column, task in reversed(COLUMNS.items()) if column in there}
    own = {column: column for column in there if column != "text" or "asr" in there}
    return usual | own


def label_text(name: str, column: str, value: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    """A column's value as a target text: lists and tables become JSON, nothing becomes "".

    Genders are the words of `gr`; what a column of genders says besides (other, unknown) is no label of it.
    """
    if value is None:
        return ""
    text = value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return GENDERS.get(text.lower(), text if column == name else "") if name == "gr" else text


def labels_of(row: Mapping[str, Any]) -> dict[str, str]:
    """The labels of a row of columns; empty values are none."""
    found = {name: label_text(name, column, row[column]) for name, column in names_of(row).items()}
    return {name: label for name, label in found.items() if label}
