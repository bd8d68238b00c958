"""Evaluation on a tiny random model: what is measured, what is checked before anything is generated, and what is kept."""

import logging

import numpy as np
import pytest
import soundfile
import torch

RATE = 16_000


@pytest.fixture
def model(tiny_qwen2_audio):
    from amask.lalm.batching import PromptTemplate
    from amask.lalm.qwen2_audio import Qwen2Audio

    return Qwen2Audio("tiny", *tiny_qwen2_audio(seed=0), PromptTemplate("<|audio_bos|>", "<|audio_eos|>{}"))


@pytest.fixture
def events(model, monkeypatch):
    """What the model did, in order: ("heard", clips) and ("answered", clips, limit).

    It hears the first samples of a clip, and says "female" to everything.
    """
    from amask.lalm.answering import Answer
    from amask.lalm.batching import AudioFeatures
    from amask.lalm.constrained_decoding import task_constraint

    found, width = [], model.model.get_input_embeddings().weight.shape[1]

    def encode(waves):
        found.append(("heard", len(waves)))
        embeds = torch.stack([torch.tensor(wave[: 2 * width]).view(2, width) for wave in waves])
        return AudioFeatures(embeds, torch.full((len(waves),), 2))

    def answer(_model, _features, rows, *, max_new_tokens, **_):
        constrained = rows[0].task is not None and task_constraint(rows[0].task) is not None
        found.append(("constrained" if constrained else "answered", len(rows), max_new_tokens))
        return [Answer("female"[:max_new_tokens], max_new_tokens < 6)] * len(rows)

    monkeypatch.setattr(model, "encode", encode)
    monkeypatch.setattr("amask.evaluation.harness.answer_task_rows", answer)
    return found


@pytest.fixture
def clips(tmp_path):
    """Eight clips of noise: four female, four male, each with words."""
    from amask.data.manifest import Clip, Manifest

    rng = np.random.default_rng(0)
    made = []
    for at in range(8):
        soundfile.write(tmp_path / f"{at}.wav", rng.normal(0, 0.1, 8000 + 500 * at), RATE)
        labels = {"gr": "male" if at % 2 else "female", "asr": "one two three " * (at + 1)}
        made.append(Clip(path=f"{at}.wav", labels={name: text.strip() for name, text in labels.items()}))
    return Manifest(tuple(made), tmp_path)


@pytest.fixture
def change(clips):
    """The manifest with one clip changed."""
    from dataclasses import replace

    def changed(at, **changes):
        made = [clip.model_copy(update=changes) if number == at else clip for number, clip in enumerate(clips)]
        return replace(clips, clips=tuple(made))

    return changed


@pytest.fixture
def bank(tmp_path):
    from amask.mask_bank.bank import MaskBank

    return MaskBank(tmp_path / "masks" / "bank")


@pytest.fixture
def mask(model):
    """A mask for a task of some name, its bits drawn from a seed."""
    from amask.data.tasks import TaskSpec, parse_task
    from amask.mask_bank.mask import HeadMask

    def make(task="gr", seed=0):
        logits = torch.randn(model.geometry.shape, generator=torch.Generator().manual_seed(seed))
        spec = task if isinstance(task, TaskSpec | None) else parse_task(task)
        return HeadMask.from_logits(logits, model.identity, task=spec)

    return make


@pytest.fixture
def evaluate(model, clips, bank):
    """`evaluate` with two prompts and one random mask."""
    from amask.evaluation.evaluate import evaluate

    def run(tasks, data=clips, **settings):
        found = evaluate(model, tasks, data, settings.pop("bank", bank), **{"prompts": 2, "seeds": 1, "others": 0} | settings)
        return [row for table in found for row in table.rows]

    return run


@pytest.fixture
def tables(model, clips, bank):
    """`evaluate` with two prompts and one random mask, as tables."""
    from amask.evaluation.evaluate import evaluate

    return lambda tasks, data=clips, **settings: evaluate(model, tasks, data, bank, **{"prompts": 2, "seeds": 1} | settings)


def kinds_of(manifest, name="gr", **settings):
    from amask.data.tasks import parse_task
    from amask.evaluation.harness import clips_for

    return [clip.kind for clip in clips_for(parse_task(name), manifest, "test", **settings)]


def test_kinds_count_only_where_every_clip_has_one(clips, change):
    assert len(kinds_of(clips)) == 8
    assert len(kinds_of(change(3, kind="speech"))) == 8
    every = [clip.model_copy(update={"kind": kind}) for clip, kind in zip(clips, ["speech", "scene"] * 4, strict=True)]
    from amask.data.manifest import Manifest

    manifest = Manifest(tuple(every), clips.folder)
    assert kinds_of(manifest) == ["speech"] * 4
    assert kinds_of(manifest, kind="scene") == ["scene"] * 4
    assert kinds_of(manifest, kind="person") == []


def test_clips_have_a_label_for_every_part(clips, change):
    assert len(kinds_of(change(3, labels={"gr": "male", "asr": ""}), "gr-asr")) == 7
    assert len(kinds_of(change(3, labels={"gr": "male", "asr": ""}), "gr")) == 8
    assert len(kinds_of(change(3, split="train"), "gr")) == 7


def test_rows_of_every_way(evaluate, events, bank, mask):
    bank.add(mask(), "gr")
    rows = evaluate(["gr"])
    assert [(row.condition, row.mask, row.runs) for row in rows] == [
        ("mask", "gr@1", 1),
        ("prompt", "", 2),
        ("unprompted", "", 1),
        ("random", "gr@1", 1),
    ]
    for row in rows:
        assert (row.metric, row.clips, row.speakers, row.truncated) == ("acc", 8, 0, 0.0)
        for figures in (row.served, row.unconstrained):
            assert (figures.value, figures.detail) == (50.0, {"exact": 50.0})
            assert (figures.low, figures.high) == pytest.approx((21.5, 78.5), abs=0.05)  # Wilson's interval of 4 of 8


def test_one_limit_for_all_answers_and_cuts_are_said(evaluate, events):
    """Not the length of the reference: an answer that runs on is an error of the model."""
    evaluate(["gr", "asr"])
    assert {limit for kind, *_, limit in events if kind != "heard"} == {200}
    events.clear()
    rows = evaluate(["gr"], max_new_tokens=5)
    assert {limit for kind, *_, limit in events if kind != "heard"} == {5}
    assert {(row.unconstrained.value, row.truncated) for row in rows} == {(0.0, 100.0)}


def test_what_is_named_twice_is_measured_once(evaluate, events, bank, mask):
    stored = bank.add(mask(), "gr").stored
    rows = evaluate(["gr", "gr", "gr@1", stored, stored.task])
    assert [(row.condition, row.clips) for row in rows] == [("mask", 8), ("prompt", 8), ("unprompted", 8), ("random", 8)]


def test_masks_under_other_names_and_versions(evaluate, events, bank, mask):
    bank.add(mask("gr-asr"), "both")
    bank.add(mask("gr", 1), "gr")
    other = bank.add(mask("gr", 2), "gr").stored
    rows = evaluate(["gr-asr", "gr", other.spec])
    masked = [(row.task, row.condition, row.mask) for row in rows if row.mask]
    assert masked == [
        *(("gr-asr", condition, "both@1") for condition in ("mask", "random")),
        *(("gr", condition, spec) for condition in ("mask", "random") for spec in ("gr@1", "gr@2")),
    ]
    # The second mask of a task brings no prompts of its own: they have been measured.
    assert len([row for row in rows if row.task == "gr" and row.condition == "prompt"]) == 1
    assert [row.task for row in evaluate(["both"])] == ["gr-asr"] * 4
    assert {row.task for row in evaluate("all")} == {"gr", "gr-asr"}


def test_tasks_of_ones_own(evaluate, events, bank, mask, clips):
    """Their definition comes with the mask, or from a tasks.toml beside the data."""
    from dataclasses import replace

    from amask.data.tasks import Task, TaskSpec
    from amask.errors import DataError

    own = Task(name="voice", metric="acc", labels=("male", "female"), column="gr", wordings=("which voice",))
    with pytest.raises(DataError, match="unknown task 'voice'.* and no mask has that name"):
        evaluate(["voice"])
    bank.add(mask(TaskSpec(parts=(own,))), "mine")
    assert [(row.task, row.metric, row.served.value) for row in evaluate(["voice"])][:1] == [("voice", "acc", 50.0)]
    (clips.folder / "tasks.toml").write_text('[word]\nmetric = "wer"\ncolumn = "asr"\n')
    assert [(row.task, row.condition) for row in evaluate(["word"])] == [("word", "unprompted")]
    assert len(evaluate(["voice"], replace(clips, folder=clips.folder))) == 4


def test_a_mask_without_a_task_and_no_task_at_all_are_refused(evaluate, events, mask):
    from amask.errors import DataError

    with pytest.raises(DataError, match="has no task that it could be measured by"):
        evaluate(mask(None))
    for nothing in ([], ["all"]):
        with pytest.raises(DataError, match="there is no task to measure"):
            evaluate(nothing)


@pytest.mark.parametrize(
    ("name", "labels", "message"),
    [
        ("gr", {"gr": "F", "asr": "one"}, "clip 3.wav: 'F' is not a label of gr; expected one of female, male; --skip-bad"),
        ("gr-asr", {"gr": "male", "asr": "a|b"}, "clip 3.wav: 'a|b' cannot be part of gr-asr"),
    ],
)
def test_bad_labels_are_refused_before_anything_is_heard(evaluate, events, change, name, labels, message):
    from amask.errors import DataError

    with pytest.raises(DataError) as caught:
        evaluate(["asr", name], change(3, labels=labels))
    assert str(caught.value).startswith(message)
    assert events == []
    assert {row.clips for row in evaluate([name], change(3, labels=labels), skip_bad=True)} == {7}


def test_bad_files_are_refused_before_anything_is_generated(evaluate, events, change, clips):
    from amask.errors import AudioError

    soundfile.write(clips.folder / "long.wav", np.full(3 * RATE, 0.1), RATE)
    for path, message in (("missing.wav", "missing.wav"), ("long.wav", "the model hears at most 2.0 s")):
        with pytest.raises(AudioError, match=message):
            evaluate(["gr"], change(7, path=path))
        assert not [event for event in events if event[0] != "heard"]
        assert {row.clips for row in evaluate(["gr"], change(7, path=path), skip_bad=True)} == {7}
        events.clear()
    assert {row.clips for row in evaluate(["gr"], change(7, path="long.wav"), trim=True)} == {8}


def test_what_was_skipped_is_counted(model, bank, events, change):
    from amask.evaluation.evaluate import Settings, plan

    data = change(3, labels={"gr": "F"})
    ready = plan(["gr", "asr"], data, bank, Settings(skip_bad=True)).prepare(model)
    assert [len(target.clips) for target in ready.targets] == [7, 7]
    assert len(ready.skipped) == 1


def outcomes(model, names, clips, bank, tmp_path):
    from amask.evaluation.evaluate import Settings, plan
    from amask.evaluation.predictions import PredictionLog

    with PredictionLog(tmp_path / "p.jsonl") as log:
        return list(plan(names, clips, bank, Settings(prompts=1, seeds=1)).prepare(model).run(log))


def test_one_tasks_refusal_keeps_the_others_tables(model, events, clips, bank, tmp_path, monkeypatch):
    found = outcomes(model, ["gr", "age", "asr"], clips, bank, tmp_path)
    assert [(outcome.name, outcome.table and len(outcome.table.rows)) for outcome in found] == [
        ("age", None),
        ("gr", 2),
        ("asr", 2),
    ]
    assert str(found[0].error).startswith("no test clip of the data has labels for age; give a manifest")


def test_a_failure_on_the_way_keeps_the_others_tables(model, events, clips, bank, tmp_path, monkeypatch):
    from amask.errors import ModelError
    from amask.evaluation import harness
    from amask.evaluation.predictions import read

    answer = harness.answer_task_rows

    def failing(model, features, rows, **settings):
        if rows[0].prompt and "gender" in rows[0].prompt:
            raise ModelError("too hot")
        return answer(model, features, rows, **settings)

    monkeypatch.setattr(harness, "answer_task_rows", failing)
    found = outcomes(model, ["asr", "gr", "gr-asr"], clips, bank, tmp_path)
    assert [(outcome.name, outcome.table is None, str(outcome.error or "")) for outcome in found] == [
        ("asr", False, ""),
        ("gr", True, "too hot"),
        ("gr-asr", True, "too hot"),
    ]
    assert {prediction.task for prediction in read(tmp_path / "p.jsonl")} == {"asr"}


def test_predictions_are_kept_beside_the_bank_before_they_are_scored(tables, events, bank, mask, monkeypatch):
    from amask.data.tasks import parse_task
    from amask.evaluation.predictions import read
    from amask.evaluation.summary import summarise

    bank.add(mask(), "gr")
    (table,) = tables(["gr"])
    folder = bank.folder.parent / "bank-predictions"
    assert summarise(parse_task("gr"), read(folder / "0001.jsonl"), "8 test clips") == table

    def broken(*_, **__):
        raise RuntimeError("cannot be scored")

    monkeypatch.setattr("amask.evaluation.summary.score", broken)
    with pytest.raises(RuntimeError, match="cannot be scored"):
        tables(["gr"])
    assert read(folder / "0002.jsonl") == read(folder / "0001.jsonl")


def test_clips_are_answered_before_the_next_are_heard(evaluate, events):
    """So that many clips take no more memory than few."""
    evaluate(["gr"], batch=2)
    order = [kind for kind, *_ in events]
    assert order == ["heard", "heard", *["constrained", "answered"] * 3] * 4


def test_clips_that_come_twice_are_said(evaluate, events, clips, caplog):
    from dataclasses import replace

    first, second = clips.clips[:2]
    doubled = replace(clips, clips=(*clips.clips, first, second.model_copy(update={"split": "train"})))
    with caplog.at_level(logging.WARNING):
        evaluate(["gr"], doubled)
    assert "1 clips are in the test split more than once, the first 0.wav; each counts" in caplog.messages
    assert "1 clips of the test split are in train too and are left out, the first 1.wav" in caplog.messages


def test_speakers_of_two_splits_are_said(evaluate, events, clips, caplog):
    from dataclasses import replace

    splits = ["test"] * 4 + ["train"] * 4
    named = [
        clip.model_copy(update={"split": split, "speaker": f"s{at % 3}"})
        for at, (clip, split) in enumerate(zip(clips, splits, strict=True))
    ]
    with caplog.at_level(logging.WARNING):
        rows = evaluate(["gr"], replace(clips, clips=tuple(named)))
    assert (
        "3 of 3 speakers of the test split are in another split too, the first s0: figures are not of unseen speakers"
        in caplog.messages
    )
    assert {(row.clips, row.speakers) for row in rows} == {(4, 3)}


def test_all_splits_are_measured_together(evaluate, events, clips, change):
    assert {row.clips for row in evaluate(["gr"], change(3, split="train"))} == {7}
    assert {row.clips for row in evaluate(["gr"], change(3, split="train"), split="all")} == {8}


def test_clips_are_drawn_whatever_their_order(tables, events, clips):
    """A sorted folder has one label first; which clips are drawn does not depend on it."""
    from dataclasses import replace

    from amask.evaluation.predictions import read

    by_label = replace(clips, clips=tuple(sorted(clips, key=lambda clip: clip.labels["gr"])))
    drawn = []
    for number, data in enumerate((clips, by_label), 1):
        tables(["gr"], data, clips=5)
        drawn.append({each.path for each in read(data.folder / "masks" / "bank-predictions" / f"{number:04d}.jsonl")})
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 5


def test_another_tasks_mask_is_a_control(tables, events, bank, mask):
    """Of those that there are, the one whose size is nearest."""
    for at, task in enumerate(("gr", "ser", "asr")):
        bank.add(mask(task, at), task)
    (table,) = tables(["gr"])
    (row,) = [row for row in table.rows if row.condition == "other"]
    sizes = {stored.name: stored.heads_on for stored in bank.list()}
    nearest = min(("ser", "asr"), key=lambda name: abs(sizes[name] - sizes["gr"]))
    assert (row.mask, row.wording) == ("gr@1", f"{nearest}@1")


def test_a_mask_is_compared_in_pairs_with_all_else(tables, events, bank, mask):
    """Every condition has the same answers here, so that nothing differs."""
    bank.add(mask(), "gr")
    (table,) = tables(["gr"])
    assert {(each.against, each.answers, each.runs) for each in table.differences} == {
        (against, answers, runs)
        for answers in ("served", "unconstrained")
        for against, runs in (("prompt", 2), ("best prompt", 1), ("unprompted", 1), ("random", 1))
    }
    assert {(each.value, each.low, each.high) for each in table.differences} == {(0.0, 0.0, 0.0)}
    assert table.measured_on == "8 test clips"


def test_open_text_has_no_second_column(evaluate, events):
    (row,) = [row for row in evaluate(["asr"]) if row.condition == "unprompted"]
    assert row.unconstrained is None
    assert "constrained" not in [kind for kind, *_ in events]


def test_equal_error_rates_come_of_the_models_likelihoods(evaluate, model, clips, monkeypatch):
    """Not of its answers: a model that says yes to all, more surely of those that are."""
    from amask.data.tasks import Task, TaskSpec
    from amask.lalm.answering import Answer

    sure = iter([0.9, 0.6, 0.8, 0.85, 0.95, 0.7, 0.75, 0.65] * 2)  # of a second answer without constraint too
    monkeypatch.setattr(
        "amask.evaluation.harness.answer_task_rows",
        lambda _model, _features, rows, **_: [Answer("female", confidence=next(sure)) for _ in rows],
    )
    task = TaskSpec(parts=(Task(name="gr", metric="eer", labels=("female", "male"), wordings=("say it",)),))
    (row,) = [row for row in evaluate(task, prompts=0) if row.condition == "unprompted"]
    assert row.metric == "eer"
    assert row.served.value == pytest.approx(25.0)  # female: .9 .8 .95 .75; male: .6 .85 .7 .65
    assert row.unconstrained.value == pytest.approx(50.0)  # hard decisions, all alike


def test_a_metric_that_lacks_something_is_refused_at_once(evaluate, events, clips, change, monkeypatch, tmp_path):
    from amask.data.tasks import Task, TaskSpec
    from amask.errors import DataError

    monkeypatch.setattr("nltk.data.path", [str(tmp_path)])
    with pytest.raises(DataError, match="cannot measure t: METEOR needs WordNet"):
        evaluate(TaskSpec(parts=(Task(name="t", metric="meteor", column="asr"),)))
    assert events == []
