"""A task of a user's own, from nothing but a folder of clips and a JSONL, as docs/tasks.md tells it."""

import json
import re
import tomllib

import numpy as np
import pytest
import soundfile

DRINKS = ("coffee", "tea")


@pytest.fixture(scope="module")
def orders(wave, tmp_path_factory):
    """Twenty clips of two drinks by five speakers: a voice, and the same voice slowed."""
    folder = tmp_path_factory.mktemp("orders")
    (folder / "clips").mkdir()
    rows = []
    for number in range(20):
        drink = DRINKS[number % 2]
        heard = wave if drink == "coffee" else np.interp(np.arange(0, len(wave), 0.7), np.arange(len(wave)), wave)
        soundfile.write(folder / "clips" / f"{number}.wav", (heard * (0.5 + number / 40)).astype(np.float32), 16_000)
        rows.append({"path": f"clips/{number}.wav", "drink": drink, "gender": "F", "speaker": f"s{number % 5}"})
    (folder / "orders.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture
def trained(amask, orders, tmp_path):
    """A bank with a mask of the task, trained on a column that no task is defined for."""
    done = amask("bank", "train", "drink", "--data", orders / "orders.jsonl", "--steps", 2, "--batch", 4)
    assert done.exit_code == 0, done.stderr
    return done


def test_a_task_is_proposed_from_its_column_and_known_ever_after(amask, orders, trained, caplog):
    said = trained.stderr + "".join(record.getMessage() for record in caplog.get_records("setup"))
    assert "'drink' is taken from the data: answers are one of coffee, tea" in said
    clip = orders / "clips" / "0.wav"
    (row,) = [json.loads(amask("run", "--task", "drink", clip, "--json").stdout)]
    assert (row["task"], row["mask"]) == ("drink", "drink@1")
    assert row["text"] in DRINKS
    said = amask("run", "--instruction", "which drink do you hear", clip)
    assert said.stdout.strip() in DRINKS
    composed = amask("compose", "gr", "AND", "drink", "--data", orders / "orders.jsonl")
    assert composed.exit_code == 0, composed.stderr
    measured = amask("eval", "drink", "--data", orders / "orders.jsonl", "--clips", 4, "--prompts", 1, "--seeds", 1, "--json")
    assert measured.exit_code == 0, measured.stderr
    rows = [row for table in json.loads(measured.stdout)["tables"] for row in table["rows"]]
    assert {row["task"] for row in rows} == {"drink"}
    assert {row["metric"] for row in rows} == {"acc"}


def test_a_task_is_defined_by_a_file(amask, orders, tmp_path):
    text = '[order]\nmetric = "acc"\nlabels = ["coffee", "tea"]\ncolumn = "drink"\nwordings = ["what was ordered"]\n'
    (tmp_path / "mine.toml").write_text(text)
    options = ("--data", orders / "orders.jsonl", "--tasks", tmp_path / "mine.toml", "--steps", 1, "--batch", 2)
    done = amask("bank", "train", "order", *options)
    assert done.exit_code == 0, done.stderr
    assert amask("run", "--instruction", "what was ordered", orders / "clips" / "1.wav").stdout.strip() in DRINKS


def test_a_label_that_the_task_does_not_have_is_refused_before_anything_is_heard(amask, orders, tmp_path):
    text = '[drink]\nmetric = "acc"\nlabels = ["coffee", "water"]\n'
    (tmp_path / "mine.toml").write_text(text)
    done = amask("bank", "train", "drink", "--data", orders / "orders.jsonl", "--tasks", tmp_path / "mine.toml", "--steps", 1)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "tea" in done.stderr
    assert amask("bank", "train", "drnik", "--data", orders / "orders.jsonl").exit_code == 1


def test_the_tutorials_definition_is_one(root):
    from amask.data.tasks import Task

    page = (root / "docs" / "tasks.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    ((name, table),) = tomllib.loads(example).items()
    task = Task.model_validate({"name": name} | table)
    assert (task.name, task.column) == ("drink", "label")
