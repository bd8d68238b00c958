"""Tasks, composites, wordings and the pocket language."""

import json

import numpy as np
import pytest

LABELS = {"gr": "female", "asr": "put the red box", "ser": 'so "sad"'}


@pytest.mark.parametrize(
    ("name", "canonical", "target"),
    [
        ("asr", "asr", "put the red box"),
        ("gr|asr", "gr-asr", "female|put the red box"),
        ("GR-ASR", "gr-asr", "female|put the red box"),
        ("asr-gr-json", "asr-gr-json", '{"asr": "put the red box", "gr": "female"}'),
        ("ser-gr-asr-json", "ser-gr-asr-json", '{"ser": "so \\"sad\\"", "gr": "female", "asr": "put the red box"}'),
    ],
)
def test_targets_and_back(name, canonical, target):
    from amask.data.tasks import parse_task

    task = parse_task(name)
    assert task.name == canonical
    assert task.target(LABELS) == target
    assert task.split(target) == {part: LABELS[part] for part in task.names}


@pytest.mark.parametrize("name", ["", "lyrics", "gr-", "gr-gr", "json", "gr-json", "gr asr", "../gr"])
def test_unknown_tasks(name):
    from amask.data.tasks import parse_task
    from amask.errors import DataError

    with pytest.raises(DataError):
        parse_task(name)


@pytest.mark.parametrize("answer", ["", "female", "female|a|b", "{", "[1]", '{"gr": "female"}', "[" * 5000])
def test_answers_out_of_form(answer):
    from amask.data.tasks import parse_task

    assert parse_task("gr-asr-json").split(answer) is None
    if answer.count("|") != 1:
        assert parse_task("gr-asr").split(answer) is None


def test_withheld_wordings_are_withheld():
    from amask.data.tasks import builtin_tasks, parse_task
    from amask.pocket.instructions import wordings

    for name in [*builtin_tasks(), "gr-asr", "asr-ser-json"]:
        train, withheld = (set(wordings(parse_task(name), part)) for part in ("train", "withheld"))
        assert len(train) >= 12
        assert withheld
        assert not train & withheld
    assert wordings(parse_task("gr-ser-asr"))[0].count("then") == 2


def test_sentences_stay_within_their_split_and_vocabulary():
    from amask.pocket.corpus.grammar import VOCABULARY, draw_sentence, text_split

    assert len(VOCABULARY) >= 60
    said = {}
    for split in ("train", "dev", "test"):
        rng = np.random.default_rng(0)
        said[split] = {draw_sentence(rng, split).english for _ in range(400)}
        assert {word for text in said[split] for word in text.split()} <= VOCABULARY
        assert {text_split(text) for text in said[split]} <= {split, "any"}
    assert all(text_split(text) == "any" for text in said["train"] & said["test"])


@pytest.mark.parametrize(
    ("noun", "colour", "german"),
    [
        ("box", "red", "die rote kiste"),
        ("ball", "blue", "den blauen ball"),
        ("book", "white", "das weiße buch"),
        ("key", None, "den schlüssel"),
    ],
)
def test_german_objects_by_hand(noun, colour, german):
    from amask.pocket.corpus.grammar import _object_phrase

    assert _object_phrase(noun, colour)[1] == german


def test_german_word_order():
    """The adverb follows the verb, the particle of "ruf an" comes last, and plurals have no article."""
    from amask.pocket.corpus import grammar

    rng = np.random.default_rng(1)
    for _ in range(300):
        command = grammar._command(rng, short=False)
        last = command.english.split()[-1]
        if last in grammar.ADVERBS:
            assert command.german.split()[1] == grammar.ADVERBS[last]
        call = grammar._appointment(rng, short=False)
        assert call.german.endswith(" an") == call.english.startswith("call")
        assert not {"den", "die", "das"} & set(grammar._observation(rng, short=False).german.split())


def test_slice_is_whole():
    from amask.data.reading import read_manifest
    from amask.data.tasks import builtin_tasks
    from amask.pocket import SLICE

    manifest = read_manifest(SLICE)
    assert all(manifest.path(clip).exists() for clip in manifest)
    assert not {clip.source for clip in manifest} - {"espeak", "flite", "procedural"}
    for task in builtin_tasks().keys() - {"age"}:
        assert len([c for c in manifest.select("test", [task]) if c.labels[task]]) >= 160
    voices = {s: {n for c in manifest if c.split == s for n in c.speaker.split("+")} for s in ("train", "test")}
    assert not {n.split("-")[1] for n in voices["train"] if n} & {n.split("-")[1] for n in voices["test"] if n}
    assert json.loads((SLICE / "manifest.jsonl").read_text().splitlines()[0])["split"] == "train"


def test_a_users_tasks_join_the_built_in_ones(tmp_path):
    from amask.data.tasks import collect_tasks, parse_task

    accent = '[accent]\nmetric = "acc"\nlabels = ["irish", "welsh"]\nwordings = ["which accent"]\n'
    (tmp_path / "tasks.toml").write_text(accent + '[gr]\nmetric = "acc"\nlabels = ["f", "m"]\n')
    known = collect_tasks(None, tmp_path)
    assert known["gr"].labels == ("f", "m")  # of the same name the last counts
    assert parse_task("accent|asr", known).target({"accent": "irish", "asr": "hello"}) == "irish|hello"
    assert parse_task("gr-accent-json", known, ["Gender", "Accent"]).target({"gr": "f", "accent": "irish"}) == (
        '{"Gender": "f", "Accent": "irish"}'
    )


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("[a", "is not TOML"),
        ('[accent]\nmetric = "acc"', "'acc' goes with labels"),
        ('[accent]\nmetric = "wer"\nlabels = ["a", "b"]', "'wer' goes without labels"),
        ('[accent]\nmetric = "acc"\nlabels = ["a", "A"]', "all different"),
        ('[accent]\nmetric = "f1"', "metric"),
        ('[accent]\nmetric = "wer"\nwording = ["x"]', "wording: Extra inputs"),
        ('[my-accent]\nmetric = "wer"', "small letters"),
        ('[json]\nmetric = "wer"', "not 'json'"),
        ("accent = 3", "task 'accent'"),
    ],
)
def test_tasks_that_are_not_what_they_should_be(tmp_path, text, fragment):
    from amask.data.tasks import read_tasks
    from amask.errors import DataError

    (tmp_path / "tasks.toml").write_text(text)
    with pytest.raises(DataError, match="tasks.toml") as caught:
        read_tasks(tmp_path / "tasks.toml")
    assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bar_in_a_part_is_refused_before_it_spoils_a_pipe():
    from amask.data.tasks import parse_task
    from amask.errors import DataError

    labels = {"gr": "male", "asr": "a|b"}
    with pytest.raises(DataError, match=r"'a\|b' cannot be part of gr-asr"):
        parse_task("gr-asr").target(labels)
    spec = parse_task("gr-asr-json")
    assert spec.split(spec.target(labels)) == labels


@pytest.mark.parametrize("answer", ['{"gr": null, "asr": "a"}', '{"gr": "male", "asr": 3}', '{"gr": ["male"], "asr": "a"}'])
def test_json_answers_hold_text(answer):
    from amask.data.tasks import parse_task

    assert parse_task("gr-asr-json").split(answer) is None


def test_wordings_of_composites_name_every_part():
    from amask.data.tasks import parse_task
    from amask.data.wordings import wordings

    for name in ("gr-asr", "gr-ser-asr-json", "gr-ser-age-asr"):
        spec = parse_task(name)
        said = wordings(spec)
        assert len(said) == len(set(said)) >= 18
        for text in said:
            assert all(any(phrase in text for phrase in part.phrases) for part in spec.parts)


def test_a_file_of_tasks_counts_whatever_it_is_called_and_must_be_there(tmp_path):
    from amask.data.tasks import collect_tasks
    from amask.errors import DataError

    (tmp_path / "mine.txt").write_text('[note]\nmetric = "wer"\n')
    assert collect_tasks(tmp_path / "nowhere", file=tmp_path / "mine.txt")["note"].metric == "wer"
    for name in ("absent", "absent.toml", "."):
        with pytest.raises(DataError, match="cannot read tasks"):
            collect_tasks(file=tmp_path / name)
