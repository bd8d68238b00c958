"""Reports on a tiny random model: runs are made once, within a budget, and every table is made of what is there."""

import csv
import io
import json

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
def answered(model, monkeypatch):
    """How many rows the model answered. It says "female" with the more heads the surer, and what it is told."""
    from amask.lalm.answering import Answer
    from amask.lalm.batching import AudioFeatures

    found, width = [], model.model.get_input_embeddings().weight.shape[1]

    def encode(waves):
        embeds = torch.stack([torch.tensor(wave[: 2 * width]).view(2, width) for wave in waves])
        return AudioFeatures(embeds, torch.full((len(waves),), 2))

    def answer(_model, _features, rows, **_):
        found.append(len(rows))
        share = 1.0 if rows[0].gates is None else float(rows[0].gates.mean())
        return [Answer("female" if share > 0.5 else "male", confidence=0.5 + share / 2)] * len(rows)

    monkeypatch.setattr(model, "encode", encode)
    monkeypatch.setattr("amask.evaluation.harness.answer_task_rows", answer)
    return found


@pytest.fixture
def clips(tmp_path):
    """Eight clips of noise by four speakers."""
    from amask.data.manifest import Clip, Manifest

    rng = np.random.default_rng(0)
    made = []
    for at in range(8):
        soundfile.write(tmp_path / f"{at}.wav", rng.normal(0, 0.1, 8000 + 500 * at), RATE)
        labels = {"gr": "male" if at % 2 else "female", "asr": "one two", "ser": "happy"}
        made.append(Clip(path=f"{at}.wav", labels=labels, speaker=f"s{at // 2}"))
    return Manifest(tuple(made), tmp_path)


@pytest.fixture
def bench(model, clips, tmp_path, answered):
    from amask.data.tasks import parse_task
    from amask.evaluation.bench import Options, build_bench
    from amask.mask_bank.bank import MaskBank
    from amask.mask_bank.mask import HeadMask

    bank = MaskBank(tmp_path / "bank")
    for at, (task, seed, sparsity) in enumerate((("gr", 1, 0.0), ("gr", 2, 1e-3), ("asr", 1, 0.0), ("gr-asr", 1, 0.0))):
        logits = torch.randn(model.geometry.shape, generator=torch.Generator().manual_seed(at))
        about = {"seed": seed, "recipe": {"sparsity": sparsity}}
        bank.add(HeadMask.from_logits(logits, model.identity, task=parse_task(task), lineage=about), task)
    options = Options(prompts=2, seeds=1, random=2, wordings=2, points=2, orders=1)
    return build_bench(model, bank, clips, tmp_path / "answers", options=options)


@pytest.fixture
def make(bench):
    """Makes tables, without a bar."""
    from amask.evaluation.answer_store import Budget
    from amask.evaluation.evaluate import no_progress
    from amask.evaluation.report import find_ablations, make_report

    return lambda names=(), seconds=None, folder=None: make_report(
        bench, find_ablations(names), Budget(seconds), no_progress, folder
    )


def test_every_table_is_written_and_the_page_needs_nothing_else(make, tmp_path):
    from amask.evaluation.report import ABLATIONS

    made = make(folder=tmp_path / "report")
    assert made.left == 0
    assert [section.name for section in made.sections] == list(ABLATIONS)
    filled = {section.name for section in made.sections if section.rows}
    assert filled == {"main", "composites", "sensitivity", "random", "order", "jaccard", "heads", "seeds", "lambda"}
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert page.count("<img ") == page.count("src=") == len(filled)  # pictures are within the page
    assert page.index("<img") < page.index("<table")
    assert 'src="http' not in page
    assert 'href="http' not in page
    for name in filled:
        rows = json.loads((tmp_path / "report" / f"{name}.json").read_text(encoding="utf-8"))["rows"]
        table = list(csv.DictReader(io.StringIO((tmp_path / "report" / f"{name}.csv").read_text(encoding="utf-8"))))
        assert [list(row) for row in rows] == [list(row) for row in table]
        assert (tmp_path / "report" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    notes = {section.name: section.note for section in made.sections if not section.rows}
    assert notes["transfer"] == "give another model with --to"
    assert "--isa" in notes["isa"]


def test_runs_are_made_once(make, answered):
    make(["main"])
    count = len(answered)
    assert count > 0
    make(["main"])
    assert len(answered) == count
    make(["main", "random"])  # its first random mask was there already
    assert len(answered) > count


def test_a_budget_leaves_runs_out_and_the_next_call_goes_on(make, answered):
    made = make(["main"], seconds=0.0)
    assert answered == []
    assert made.left > 0
    assert made.sections[0].rows == ()
    assert made.sections[0].note == f"{made.left} of {made.left} runs are missing; the same command goes on"
    whole = make(["main"])
    assert (whole.left, whole.sections[0].note) == (0, "")
    assert len(whole.sections[0].rows) == 3


def test_the_main_table_says_what_each_condition_scores(make):
    (section,) = make(["main"]).sections
    row = next(row for row in section.to_json()["rows"] if row["task"] == "gr")
    assert (row["metric"], row["clips"], row["speakers"], row["wordings"]) == ("acc", 8, 4, 2)
    assert {row[name] for name in ("mask", "best prompt", "worst prompt", "unprompted")} == {50.0}
    assert row["mask − prompts [95 %]"].startswith("+0.0 [")
    assert row["unprompted, unc."] == 50.0
    asr = next(row for row in section.to_json()["rows"] if row["task"] == "asr")
    assert asr["mask, unconstrained"] is None  # open text is held to nothing


def test_within_a_budget_every_table_gets_some_runs(bench):
    """The first tables whole, then of each other one in turn; no run twice."""
    from amask.evaluation.report import find_ablations, list_jobs

    chosen = find_ablations(["main", "random", "order"])
    main, random, order = ([job.store.path(job.clips, job.trial) for job in each.jobs(bench)] for each in chosen)
    listed = [job.store.path(job.clips, job.trial) for job in list_jobs(bench, chosen)]
    assert len(set(listed)) == len(listed)
    assert set(listed) == {*main, *random, *order}
    assert listed[: len(set(main))] == list(dict.fromkeys(main))
    rest = [path for path in listed if path not in main]
    assert {path in random for path in rest[:3]} == {True, False}


def test_what_no_table_shows_is_not_measured(make, bench):
    """Random orders are drawn as served: their unconstrained answers are not waited for, unless they are there."""
    from amask.evaluation.ablations import order_jobs
    from amask.evaluation.answer_store import Budget
    from amask.evaluation.bench import headline, score_job

    make(["order"])
    jobs = [job for job in order_jobs(bench) if job.clips.task.name == "gr"]
    assert all(headline(score_job(job))[1] is not None for job in jobs if job.trial.condition == "mask")
    alone = [job for job in jobs if job.store is not bench.store]  # no heads and all heads are those of the other order
    assert {job.trial.condition for job in alone} == {"random"}
    for job in alone:
        served, free = headline(score_job(job))
        assert (served is not None, free) == (True, None)
        assert bench.job(job.clips, job.trial).answers is None
    bench.store.make(alone[0].clips, alone[0].trial, Budget())
    assert bench.job(alone[0].clips, alone[0].trial, served_only=True).store is bench.store


def test_the_radar_is_of_what_eval_isa_wrote(bench, tmp_path):
    from dataclasses import replace

    from amask.data.answer_format import AnswerFormat
    from amask.errors import DataError
    from amask.evaluation.isa import isa_section, load_systems, save_answers
    from amask.evaluation.isa_scores import IsaAnswer

    answers = [IsaAnswer("f", "gr", "upper_case", said, "female", AnswerFormat(case="upper")) for said in ("FEMALE", "female")]
    save_answers(answers, tmp_path / "isa" / "masked.jsonl")
    section = isa_section(replace(bench, isa=load_systems(tmp_path / "isa")))
    assert section.columns == ("variation", "masked, %")
    assert dict(section.rows)["F upper case"] == 50.0
    assert section.to_png().startswith(b"\x89PNG")
    with pytest.raises(DataError, match="amask eval isa INSTRUCTIONS --predictions"):
        load_systems(tmp_path)


def test_heads_come_on_in_order_of_logit(bench):
    from amask.evaluation.ablations import _ordered

    mask, found = bench.masks["gr"], list(_ordered(bench, "gr"))
    assert {order for _, order, _ in found} == {"logit", "random 1"}
    by_logit = {count: trial.mask for count, order, trial in found if order == "logit"}
    assert all(each.heads_on == count for count, each in by_logit.items())
    assert torch.equal(by_logit[mask.heads_on].bits, mask.bits)
    ordered = [by_logit[count].bits for count in sorted(by_logit)]
    assert all(bool((more | ~fewer).all()) for fewer, more in zip(ordered, ordered[1:], strict=False))


def test_masks_are_tried_on_another_model_with_a_picture(bench, model, tiny_qwen2_audio, answered):
    from dataclasses import replace

    from amask.evaluation.answer_store import AnswerStore, Budget
    from amask.evaluation.bench import Bench
    from amask.evaluation.evaluate import no_progress
    from amask.evaluation.report import find_ablations, make_report
    from amask.lalm.qwen2_audio import Qwen2Audio

    other = Qwen2Audio("other", *tiny_qwen2_audio(seed=1), model.template)
    other.encode = model.encode
    moved = replace(bench, other=Bench(other, AnswerStore(other, bench.store.folder), {}, (), bench.sets, bench.options))
    (section,) = make_report(moved, find_ablations(["transfer"]), Budget(), no_progress).sections
    assert {row[0] for row in section.rows} == {"gr", "asr"}
    assert section.columns[:4] == ("task", "metric", "own model", "own model, unc.")
    (axes,) = section.draw().axes
    drawn = {bars.get_label(): [bar.get_width() for bar in bars] for bars in axes.containers}
    columns = section.columns
    assert drawn == {
        name: [row[columns.index(name)] for row in section.rows] for name in ("own model", "other model", "other unprompted")
    }


def test_a_budget_that_ends_within_a_run_keeps_what_is_answered(bench, make, answered):
    from amask.evaluation.answer_store import Budget
    from amask.evaluation.evaluate import no_progress
    from amask.evaluation.report import find_ablations, make_report

    class ThreeBatches(Budget):
        @property
        def is_spent(self):
            return sum(answered) >= 3 * bench.store.batch

    bench.store.batch, bench.store.unconstrained = 2, False
    made = make_report(bench, find_ablations(["main"]), ThreeBatches(), no_progress)
    assert sum(answered) == 6  # of the first run's eight clips
    assert not made.sections[0].rows
    runs = made.left
    assert make(["main"]).left == 0
    assert sum(answered) == 8 * runs
    assert not list(bench.store.folder.glob("*.begun"))


def test_answers_are_found_again_only_for_the_same_run(bench, model, clips, tmp_path):
    from dataclasses import replace

    from amask.evaluation.answer_store import AnswerStore, ClipSet
    from amask.evaluation.harness import Trial

    store, some = bench.store, bench.sets["gr"]
    mask = bench.masks["gr"]
    fewer = ClipSet(some.task, replace(some.manifest, clips=some.manifest.clips[:4]))
    paths = [
        store.path(some, Trial("mask", "", mask)),
        store.path(some, Trial("mask", "", ~mask)),
        store.path(some, Trial("prompt", "a")),
        store.path(some, Trial("prompt", "b")),
        store.path(some, Trial("unprompted", "")),
        store.path(fewer, Trial("mask", "", mask)),
        AnswerStore(model, tmp_path / "answers", max_new_tokens=3).path(some, Trial("mask", "", mask)),
    ]
    assert len(set(paths)) == len(paths)
    assert store.path(some, Trial("random", "seed 1", mask, "gr@1")) == paths[0]  # the same heads, whatever they are called


def test_masks_that_are_alike_stand_beside_each_other():
    from amask.evaluation.ablations import cluster_masks

    jaccard = [[1.0, 0.1, 0.9, 0.1], [0.1, 1.0, 0.1, 0.8], [0.9, 0.1, 1.0, 0.1], [0.1, 0.8, 0.1, 1.0]]
    order, groups = cluster_masks(jaccard)
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset({0, 2}), frozenset({1, 3})}
    assert groups[0] == groups[2] != groups[1] == groups[3]


def test_names_and_budgets_that_make_no_sense_are_said():
    from amask.cli.report import read_budget
    from amask.errors import DataError
    from amask.evaluation.report import find_ablations

    with pytest.raises(DataError, match="there is no table 'mane'; expected one of main, composites"):
        find_ablations(["mane"])
    assert [read_budget(text) for text in (None, "90", "90s", "1.5m", "2h")] == [None, 90, 90, 90, 7200]
    with pytest.raises(DataError, match="--budget soon: expected a time such as 90s"):
        read_budget("soon")


def test_a_bank_is_told_from_a_model_and_from_any_folder_of_weights(tmp_path, monkeypatch):
    from amask.cli.report import is_bank

    for path in (
        "pocket/weights/pocket.safetensors",
        "pocket/gr/1.safetensors",
        "model/model.safetensors",
        "bank/gr/1.safetensors",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    monkeypatch.chdir(tmp_path)
    there = ("pocket", "./pocket", "model", "bank", "bank/gr", "nowhere")
    assert [what for what in there if is_bank(what)] == ["./pocket", "bank"]
