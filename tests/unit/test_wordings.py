"""The requests that ship for the predictor: enough of each, none twice, and nothing withheld among what is trained."""

import copy
import re
import tomllib
from collections import Counter
from dataclasses import asdict

import pytest

TEMPLATES = ("pipe2", "pipe3", "json2", "json3")
TASKS = ("asr", "gr", "ser", "asv", "aac", "osr", "s2tt", "age")


def plain(text):
    """Without capitals and the marks that mean nothing: `gr|asr`, `{gr, asr}` and `F/M` keep theirs."""
    return " ".join(re.sub(r"[.,;:!?\"'()]", " ", text.casefold()).split())


@pytest.fixture(scope="module")
def said():
    from amask.predictor.wordings import read_wordings

    return read_wordings()


@pytest.fixture(scope="module")
def trained(said):
    """Whole requests that may be trained on."""
    tasks = [text for task in said.tasks.values() for text in task.train]
    return [*tasks, *(request.text for request in said.composites.requests.train), *said.unsupported.far, *said.unsupported.near]


@pytest.fixture(scope="module")
def held_out(said):
    tasks = [text for task in said.tasks.values() for text in task.held_out]
    unsupported = [*said.unsupported.far_held_out, *said.unsupported.near_held_out]
    return [*tasks, *(request.text for request in said.composites.requests.held_out), *unsupported]


@pytest.fixture(scope="module")
def raw(root):
    return {p.stem: tomllib.loads(p.read_text(encoding="utf-8")) for p in (root / "predictor" / "wordings").glob("*.toml")}


def test_every_task_has_its_wordings(said):
    from amask.data.tasks import builtin_tasks

    assert set(said.tasks) == set(builtin_tasks()) == set(TASKS)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("field", "least"),
    [
        ("train", 130),
        ("held_out", 40),
        ("phrases", 100),
        ("phrases_held_out", 8),
        ("phrases_de", 20),
        ("imperatives", 17),
        ("imperatives_de", 6),
    ],
)
def test_a_task_has_enough_of_each(said, task, field, least):
    assert len(getattr(said.tasks[task], field)) >= least


def test_there_are_enough_composites_and_foreign_requests(said):
    templates = [getattr(said.composites, kind) for kind in TEMPLATES]
    assert sum(len(each.train) + len(each.train_de) for each in templates) >= 60
    assert sum(len(each.held_out) + len(each.held_out_de) for each in templates) >= 25
    assert all(each.train_de and each.held_out_de for each in templates)
    excluding = said.composites.single_with_exclusion
    assert len(excluding.train) >= 12
    assert len(excluding.held_out) >= 5
    requests = said.composites.requests
    assert len(requests.train) >= 60
    assert len(requests.held_out) >= 40
    for some in (requests.train, requests.held_out):
        assert {(len(request.parts), request.form) for request in some} == {(2, "pipe"), (3, "pipe"), (2, "json"), (3, "json")}
        assert any(request.keys for request in some)
    unsupported = said.unsupported
    assert min(len(unsupported.far), len(unsupported.near)) >= 220
    assert min(len(unsupported.far_held_out), len(unsupported.near_held_out)) >= 60


def test_no_request_comes_twice(trained, held_out):
    counts = Counter(map(plain, [*trained, *held_out]))
    assert [text for text, count in counts.items() if count > 1 or not text] == []


def test_no_phrase_and_no_template_comes_twice(said):
    tasks = said.tasks.values()
    phrases = [text for task in tasks for text in (*task.phrases, *task.phrases_held_out, *task.phrases_de)]
    kinds = [getattr(said.composites, kind) for kind in (*TEMPLATES, "single_with_exclusion")]
    templates = [text for kind in kinds for texts in asdict(kind).values() for text in texts]
    imperatives = [text for task in tasks for text in (*task.imperatives, *task.imperatives_de)]
    for texts in (map(plain, phrases), map(plain, imperatives), templates):
        assert [text for text, count in Counter(texts).items() if count > 1] == []


def test_nothing_withheld_is_trained_in_another_role(said, trained, held_out):
    """A withheld request may not be a phrase that is trained, nor a withheld phrase a request that is."""
    phrases = {
        plain(text)
        for task in said.tasks.values()
        for text in (*task.phrases, *task.phrases_de, *task.imperatives, *task.imperatives_de)
    }
    assert phrases & set(map(plain, held_out)) == set()
    held_out_phrases = {plain(text) for task in said.tasks.values() for text in task.phrases_held_out}
    assert held_out_phrases & set(map(plain, trained)) == set()


def test_the_tasks_own_wordings_are_not_withheld(held_out):
    from amask.data.tasks import builtin_tasks

    own = {plain(text) for task in builtin_tasks().values() for text in (*task.wordings, *task.phrases)}
    assert own & set(map(plain, held_out)) == set()


def test_what_is_withheld_from_the_pocket_model_is_not_trained(root, said, trained):
    """So that wordings exist that neither the model nor its predictor has seen."""
    table = tomllib.loads((root / "pocket" / "instructions.toml").read_text(encoding="utf-8"))
    unseen = {plain(text) for name in TASKS for text in table[name]["withheld"]}
    phrases = [text for task in said.tasks.values() for text in (*task.phrases, *task.imperatives)]
    assert unseen & {plain(text) for text in (*trained, *phrases)} == set()


def test_templates_put_the_first_part_of_the_answer_into_the_first_place(said):
    """Some mention the parts in another order than they are answered."""
    for kind in TEMPLATES:
        templates = getattr(said.composites, kind)
        for texts in (templates.train, templates.held_out):
            assert any(text.index("{0}") > text.index("{1}") for text in texts)
    assert said.composites.json2.train_de[0].format("das Alter", "den Text") == "das Alter und den Text als JSON"


def test_the_loader_gives_what_the_files_say(said, raw):
    def as_lists(value):
        if isinstance(value, dict):
            return {key: as_lists(each) for key, each in value.items() if key != "keys" or each}
        return [as_lists(each) for each in value] if isinstance(value, tuple | list) else value

    assert as_lists({name: asdict(task) for name, task in said.tasks.items()}) == {name: raw[name] for name in TASKS}
    assert as_lists(asdict(said.composites)) == raw["composites"]
    assert as_lists(asdict(said.unsupported)) == raw["unsupported"]
    assert set(raw) == {*TASKS, "composites", "unsupported", "forms"}


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("gr", lambda table: table.update(phrase=["x"]), "gr.phrase: Unexpected keyword argument"),
        ("gr", lambda table: table["train"].append(" sex? "), "gr.train"),
        ("composites", lambda table: table["pipe2"]["train"].append("{0} and {0}"), "must have each of 2 places once"),
        ("composites", lambda table: table["json3"]["train"].append("json: {0}, {1}"), "must have each of 3 places once"),
        (
            "composites",
            lambda table: table["requests"]["train"].append({"text": "x", "parts": ["gr", "lyrics"], "form": "pipe"}),
            "unknown parts: lyrics",
        ),
        (
            "composites",
            lambda table: table["requests"]["train"].append({"text": "x", "parts": ["gr", "gr"], "form": "json"}),
            "names a part twice",
        ),
    ],
)
def test_a_damaged_file_is_refused_with_the_place(monkeypatch, raw, file, damage, message):
    from amask.errors import DataError
    from amask.predictor import wordings

    table = copy.deepcopy(raw[file])
    damage(table)
    monkeypatch.setattr(wordings, "_table", lambda name: table if name == file else raw[name])
    with pytest.raises(DataError, match=message):
        wordings.read_wordings.__wrapped__()
