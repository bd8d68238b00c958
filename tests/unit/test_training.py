"""Mask training on a tiny random model: against the steps worked by hand, deterministic, resumable to the bit."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def lalm(tiny_qwen2_audio):
    from amask.lalm.batching import PromptTemplate
    from amask.lalm.qwen2_audio import Qwen2Audio

    return Qwen2Audio("tiny", *tiny_qwen2_audio(seed=0), PromptTemplate("<|audio_bos|>", "<|audio_eos|>{}"))


@pytest.fixture(scope="module")
def sets(lalm):
    """Ten clips of noise with labels for two tasks: eight to learn from, two to try on."""
    from amask.mask_bank.training import LabelledClips

    rng = np.random.default_rng(1)
    waves = [rng.normal(0, 0.1, 8000 + 1600 * at).astype(np.float32) for at in range(10)]
    labels = [{"gr": "male" if at % 2 else "female", "asr": f"word {at}"} for at in range(10)]
    features = lalm.encode(waves)
    return (
        LabelledClips(features.rows(list(range(8))), tuple(labels[:8]), tuple("abcdefgh")),
        LabelledClips(features.rows([8, 9]), tuple(labels[8:]), tuple("ij")),
    )


@pytest.fixture
def train(lalm, sets):
    """Trains to the end; gives back the trainer and what it told."""
    from amask.data.tasks import parse_task
    from amask.mask_bank.recipe import Recipe
    from amask.mask_bank.training import MaskTrainer, TrainingJob

    def run(jobs, checkpoints=None, stop_after=None, score_answers=None, stop=None, **settings):
        recipe = Recipe.model_validate({"steps": 6, "batch": 4, "warmup": 2, "evaluations": 2, "dev_clips": 2, **settings})
        jobs = [TrainingJob(parse_task(name), seed, *rest) for name, seed, *rest in jobs]
        trainer = MaskTrainer(lalm, jobs, *sets, recipe, *([score_answers] if score_answers else []), checkpoints=checkpoints)
        told = []
        for now in trainer.run(save_seconds=0.0, stop=stop):
            told.append(now)
            if now.step == stop_after:
                return trainer, told
        return trainer, told

    return run


def test_losses_are_the_models_own_under_the_sampled_gates(lalm, sets, train):
    from amask.mask_bank.sampling import draw_noise, relaxed

    trainer, told = train([("gr", 3)], steps=1, first=1.0, focal=0.0, noise="gumbel", tau_end=4.0)

    def loss(row, gates):
        return float(lalm.loss(sets[0].features.rows([row]), [sets[0].labels[row]["gr"]], gates))

    # By hand: the same draws, hard gates, each row's loss, mean over rows.
    job = trainer.jobs[0]
    logits = 4.0 + 0.02 * torch.randn(lalm.geometry.shape, generator=trainer._generator(job))
    generator = trainer._generator(job, 0)
    rows = torch.randint(8, (4,), generator=generator).tolist()
    gates = (relaxed(logits, draw_noise((4, *lalm.geometry.shape), "gumbel", generator), 4.0) > 0.5).float()
    by_row = [loss(row, gate) for row, gate in zip(rows, gates, strict=True)]
    assert told[0].losses[0] == pytest.approx(sum(by_row) / 4, abs=1e-5)
    assert told[0].tau == 4.0


def test_the_gradient_by_pieces_is_that_of_the_whole_batch(lalm, sets, train, monkeypatch):
    from amask.mask_bank.losses import row_losses
    from amask.mask_bank.sampling import draw_noise, relaxed, straight_through

    monkeypatch.setattr("amask.mask_bank.lessons.MAX_ROWS", 3)
    seen = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: (seen.append(self.param_groups[0]["params"][0].grad), step(self)))
    trainer, _ = train([("gr", 1), ("asr", 2)], steps=1, sparsity=0.1)

    total = 0
    logits = torch.stack([trainer._initial(job) for job in trainer.jobs]).requires_grad_()
    for at, job in enumerate(trainer.jobs):
        generator = trainer._generator(job, 0)
        rows = torch.randint(8, (4,), generator=generator).tolist()
        gates = straight_through(relaxed(logits[at], draw_noise((4, *lalm.geometry.shape), "logistic", generator), 4.0))
        targets = [job.task.target(sets[0].labels[row]) for row in rows]
        losses = row_losses(lalm, sets[0].features.rows(rows), targets, gates, trainer.recipe)
        total = total + losses.mean() + 0.1 * gates.sum((1, 2)).mean()
    (whole,) = torch.autograd.grad(total, logits)
    assert whole.abs().min() > 0
    assert torch.allclose(seen[0], whole, rtol=1e-4, atol=1e-7)


@given(st.lists(st.floats(1, 400), max_size=60))
def test_pieces_have_each_row_once_and_little_padding(lengths):
    from amask.mask_bank.lessons import MAX_LENGTH_RATIO, MAX_ROWS, group_by_length

    pieces = group_by_length(lengths, 1000)
    assert sorted(at for piece in pieces for at in piece) == list(range(len(lengths)))
    for piece in pieces:
        assert 1 <= len(piece) <= MAX_ROWS
        assert len(piece) * max(lengths[at] for at in piece) <= 1000
        assert max(lengths[at] for at in piece) <= MAX_LENGTH_RATIO * min(lengths[at] for at in piece)


def test_memory_does_not_grow_with_the_rows_of_a_step(train, monkeypatch):
    monkeypatch.setattr("amask.mask_bank.lessons.MAX_ROWS", 4)
    monkeypatch.setattr("amask.mask_bank.lessons.MAX_LENGTH_RATIO", math.inf)
    held = {"now": 0, "most": 0}

    class Saved:
        """What the graph keeps of a forward pass, and how many bytes that is."""

        def __init__(self, tensor):
            self.tensor = tensor
            held["now"] += tensor.nbytes
            held["most"] = max(held.values())

        def __del__(self):
            held["now"] -= self.tensor.nbytes

    peaks = []
    for batch in (4, 32):
        held.update(now=0, most=0)
        with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
            train([("asr", 1)], steps=1, evaluations=1, batch=batch)
        peaks.append(held["most"])
    assert peaks[1] < 1.5 * peaks[0]


def test_only_logits_change(lalm, train):
    before = {name: parameter.clone() for name, parameter in lalm.model.named_parameters()}
    train([("gr", 1)])
    assert all(torch.equal(before[name], parameter) for name, parameter in lalm.model.named_parameters())


def test_same_seed_same_bits_other_seed_other_logits(train):
    masks = [train([("gr", seed)])[0].masks[0] for seed in (1, 1, 2)]
    assert torch.equal(masks[0].logits, masks[1].logits)
    assert not torch.equal(masks[0].logits, masks[2].logits)


def test_jobs_in_one_pass_equal_jobs_alone(train):
    together = train([("gr", 1), ("asr", 1), ("gr", 2)])[0].masks
    alone = [train([job])[0].masks[0] for job in (("gr", 1), ("asr", 1), ("gr", 2))]
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one.logits, other.logits, atol=1e-4)
    assert not torch.allclose(together[0].logits, together[1].logits, atol=1e-2)


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_stopped_training_goes_on_to_the_same_bits(train, tmp_path, stop):
    whole = train([("gr", 1), ("asr", 2)])[0].masks
    train([("gr", 1), ("asr", 2)], tmp_path, stop_after=stop)
    trainer, told = train([("gr", 1), ("asr", 2)], tmp_path)
    assert told[0].step == stop + 1
    for one, other in zip(whole, trainer.masks, strict=True):
        assert torch.equal(one.logits, other.logits)
        assert dict(one.scores) == dict(other.scores)


def test_a_training_stops_before_its_schedule_ends_where_told(train):
    """At step 3 of 6 the mask is the one that the whole training tries there, and says where it stopped."""
    dev_scores = iter([10.0, 7.0])
    whole = train([("gr", 1)], score_answers=lambda *_: next(dev_scores))[0].masks[0]
    trainer, told = train([("gr", 1)], score_answers=lambda *_: 10.0, stop=3)
    assert [now.step for now in told] == [1, 2, 3]
    assert torch.equal(trainer.masks[0].logits, whole.logits)
    assert trainer.masks[0].lineage["stopped"] == 3
    assert "stopped" not in whole.lineage
    assert train([("gr", 1)], score_answers=lambda *_: 10.0, stop=2)[0].masks[0].scores == {"dev": 10.0}


def test_a_checkpoint_of_another_training_is_not_resumed(train, tmp_path):
    first, _ = train([("gr", 1)], tmp_path, stop_after=3)
    others = [([("gr", 1)], {"peak": 0.05}), ([("gr", 2)], {}), ([("gr", 1), ("asr", 1)], {}), ([("asr", 1)], {})]
    for jobs, settings in others:
        other, told = train(jobs, tmp_path, **settings)
        assert told[0].step == 1
        other.checkpoint.remove()
    assert first.checkpoint.path.exists()
    assert train([("gr", 1)], tmp_path)[1][0].step == 4


def test_sparsity_switches_heads_off(train):
    dense = train([("gr", 1)], steps=40, peak=0.5)[0].masks[0]
    sparse = train([("gr", 1)], steps=40, peak=0.5, sparsity=5.0)[0].masks[0]
    assert sparse.heads_on < dense.heads_on


def test_fixed_layers_stay_on_in_training(lalm, train, monkeypatch):
    from amask.lalm.gating import Geometry

    seen = []

    def spy(_model, _features, _targets, gates, *_):
        seen.append(gates.detach())
        return gates.sum((1, 2))

    monkeypatch.setattr(lalm, "geometry", Geometry(lalm.geometry.heads, (0,)))
    monkeypatch.setattr("amask.mask_bank.lessons.row_losses", spy)
    trainer, told = train([("gr", 1)], steps=30, mean=0.0, sparsity=1.0)
    assert all(bool((gates[:, 0] == 1).all()) for gates in seen)
    assert any(bool((gates[:, 1] == 0).any()) for gates in seen)
    assert trainer.masks[0].heads_total == lalm.geometry.heads[1]
    assert told[-1].heads_on[0] <= lalm.geometry.heads[1]
    assert trainer.masks[0].bits[0].all()


@pytest.mark.parametrize("noise_end, scales", [(0.0, (1, 0.75, 0.5, 0.25)), (1.0, (1, 1, 1, 1))])
def test_noise_fades(train, monkeypatch, noise_end, scales):
    off = []

    def spy(_model, _features, _targets, gates, *_):
        off.append(1 - float(gates.detach().mean()))
        return 0 * gates.sum((1, 2))

    monkeypatch.setattr("amask.mask_bank.lessons.MAX_ROWS", 200)
    monkeypatch.setattr("amask.mask_bank.training.MAX_TOKENS", 10**9)
    monkeypatch.setattr("amask.mask_bank.lessons.MAX_LENGTH_RATIO", math.inf)
    monkeypatch.setattr("amask.mask_bank.lessons.row_losses", spy)
    train([("gr", 1)], steps=4, batch=200, mean=1.0, deviation=0.0, noise_end=noise_end)
    # A logit of 1 is sampled off where scale · noise < -1, for logistic noise in σ(-1 / scale) of 1600 draws.
    assert off == pytest.approx([1 / (1 + math.exp(1 / scale)) for scale in scales], abs=0.05)


def test_the_best_thresholded_mask_is_kept(train):
    dev_scores = iter([10.0, 7.0])
    trainer, told = train([("gr", 1)], score_answers=lambda *_: next(dev_scores))
    assert told[-1].dev_scores == (10.0,)
    assert trainer.masks[0].scores["dev"] == 10.0
    # What is kept is the state of step 3, where the first try was: the same run cut there gives the same logits.
    dev_scores = iter([1.0])
    early = train([("gr", 1)], stop_after=3, score_answers=lambda *_: next(dev_scores))[0]
    del early
    assert not torch.equal(trainer.masks[0].logits, train([("gr", 1)], score_answers=lambda *_: 0.0)[0].masks[0].logits)


@pytest.mark.parametrize("kinds", ["overlap speech pair quiet speech", "speech - speech speech -"])
def test_masks_are_tried_on_the_clips_that_eval_measures(lalm, sets, tmp_path, kinds):
    """Of the same kinds; where a clip has none, on all."""
    from dataclasses import replace

    from amask.data.manifest import Clip, Manifest
    from amask.data.tasks import parse_task
    from amask.evaluation.harness import clips_for
    from amask.mask_bank.recipe import Recipe
    from amask.mask_bank.training import MaskTrainer, TrainingJob

    named = tuple(kind.strip("-") for kind in kinds.split())
    dev = replace(sets[0], kinds=named + named[:3])
    clips = [Clip(path=str(at), labels=labels, split="dev", kind=dev.kinds[at]) for at, labels in enumerate(dev.labels)]
    task = parse_task("asr")
    measured = clips_for(task, Manifest(tuple(clips), tmp_path), "dev")
    trainer = MaskTrainer(lalm, [TrainingJob(task, 1)], sets[0], dev, Recipe())
    assert trainer.dev_clips == [[int(clip.path) for clip in measured]]


def test_of_labels_the_mask_is_kept_by_which_the_model_says_them_by_itself(train, monkeypatch):
    """The first try is a point better held to the labels, but the model says none of them unconstrained."""
    from amask.mask_bank import dev_scoring

    right = iter([False, True])

    def says(_model, _features, answers, _gates):
        return torch.full((len(answers),), next(right))

    monkeypatch.setattr(dev_scoring, "_says", says)
    dev_scores = iter([86.0, 85.0])
    trainer, told = train([("gr", 1)], score_answers=lambda *_: next(dev_scores))
    assert told[-1].dev_scores == (85.0,)
    assert trainer.masks[0].scores == {"dev": 85.0}


def test_lineage_tells_how(train):
    mask = train([("gr-asr-json", 5)])[0].masks[0]
    assert mask.task_name == "gr-asr-json"
    assert mask.lineage["seed"] == 5
    assert mask.lineage["recipe"]["steps"] == 6
    assert mask.lineage["clips"] == 8


def test_start_from_a_mask(lalm, train):
    from amask.mask_bank.mask import HeadMask

    bits = torch.zeros(lalm.geometry.shape, dtype=torch.bool)
    bits[0] = True
    start = HeadMask(bits=bits, identity=lalm.identity, lineage={"from": "hand"})
    mask = train([("gr", 1, start)], steps=1, peak=1e-6, floor=0.0)[0].masks[0]
    assert torch.equal(mask.bits, bits)
    assert mask.lineage["start"] == {"from": "hand", "task": "", "digest": start.digest}


def test_distilling_brings_a_mask_to_the_prompted_model(lalm, sets, train):
    """Nothing is learned from the labels here, which are drawn: what falls is the divergence from the prompted model."""
    from amask.data.tasks import parse_task
    from amask.data.wordings import wordings

    _, told = train([("gr", 1)], steps=40, batch=8, peak=0.3, mean=0.0, first=1.0, noise_end=0.0, distillation=1.0)
    losses = [now.losses[0] for now in told]
    assert sum(losses[-5:]) < sum(losses[:5])
    assert len(wordings(parse_task("gr"))) > 1


def test_prompts_are_drawn_anew_for_each_row_and_the_same_when_resumed(train, monkeypatch):
    from amask.data.tasks import parse_task
    from amask.data.wordings import wordings

    seen = []

    def spy(_model, _features, _targets, gates, _recipe, _constraints, prompts):
        seen.append(prompts)
        return gates.sum((1, 2))

    monkeypatch.setattr("amask.mask_bank.lessons.row_losses", spy)
    train([("gr", 1)], steps=4, distillation=0.5)
    first, seen[:] = list(seen), []
    train([("gr", 1)], steps=4, distillation=0.5)
    assert seen == first
    drawn = {prompt for prompts in seen for prompt in prompts}
    assert len(drawn) > 3
    assert drawn <= set(wordings(parse_task("gr")))
    seen.clear()
    train([("gr", 1)], steps=1)
    assert all(prompts == [] for prompts in seen)


def test_a_task_without_wordings_cannot_be_distilled(lalm, sets):
    from amask.data.tasks import Task, TaskSpec
    from amask.errors import DataError
    from amask.mask_bank.recipe import Recipe, choose_recipe
    from amask.mask_bank.training import MaskTrainer, TrainingJob

    silent = TaskSpec(parts=(Task(name="gr", metric="acc", labels=("female", "male")),))
    with pytest.raises(DataError, match="gr has no wordings to distil from"):
        MaskTrainer(lalm, [TrainingJob(silent, 1)], *sets, Recipe(distillation=0.5))
    with pytest.raises(DataError, match="gr has no wordings to distil from"):
        choose_recipe([silent], distillation=0.5)


def test_unknown_labels_are_refused(train):
    from amask.errors import DataError

    with pytest.raises(DataError, match="labels for age"):
        train([("age", 1)])


def test_a_step_without_memory_is_done_in_smaller_pieces(train, monkeypatch):
    """What a pass of several rows has no memory for comes to the same mask by smaller ones; a row that is too long is refused."""
    from amask.errors import ModelError
    from amask.mask_bank.losses import row_losses

    (whole,) = train([("gr", 1)], steps=3, batch=6)[0].masks
    passes = []

    def spy(most):
        def run(model, features, targets, *rest):
            passes.append(len(targets))
            if len(targets) > most:
                raise torch.OutOfMemoryError("no memory")
            return row_losses(model, features, targets, *rest)

        return run

    monkeypatch.setattr("amask.mask_bank.lessons.MAX_LENGTH_RATIO", math.inf)
    monkeypatch.setattr("amask.mask_bank.lessons.row_losses", spy(2))
    trainer, _ = train([("gr", 1)], steps=3, batch=6)
    assert torch.allclose(trainer.masks[0].logits, whole.logits, atol=1e-5)
    assert passes[0] > 2
    assert max(passes[-3:]) <= 2  # it has learned how much there is room for
    monkeypatch.setattr("amask.mask_bank.lessons.row_losses", spy(0))
    with pytest.raises(ModelError, match="out of memory with one row"):
        train([("gr", 1)], steps=3, batch=6)


def test_a_training_ends_when_dev_clips_are_answered_no_better(train):
    scores = iter([10.0, 30.0, 20.0, 30.0, 25.0, 90.0])
    trainer, told = train([("gr", 1)], steps=6, evaluations=6, patience=3, score_answers=lambda *_: next(scores))
    assert [now.step for now in told] == [1, 2, 3, 4, 5]
    assert trainer.ended_early
    assert trainer.masks[0].scores["dev"] == 30.0
    assert trainer.masks[0].lineage["stopped"] == 5
    whole = train([("gr", 1)], steps=6, evaluations=6, score_answers=lambda *_: 1.0)[0]
    assert not whole.ended_early


def test_a_training_is_done_by_one_process_at_a_time(train, tmp_path):
    from amask.errors import FileError

    held = train([("gr", 1)], tmp_path, stop_after=1)[0]
    running = held.run(save_seconds=0.0)
    next(running)
    with pytest.raises(FileError, match="another process does the same training"):
        train([("gr", 1)], tmp_path)
    train([("gr", 2)], tmp_path)
    running.close()
    assert train([("gr", 1)], tmp_path)[1][0].step == 3


def test_all_heads_on_is_said(train, caplog):
    train([("gr", 1)], steps=1, mean=20.0)
    assert "ended with all heads on" in caplog.text


def test_dev_answers_are_those_of_use(lalm, sets, monkeypatch):
    """Labels by likelihood; right answers without a word generated; others as the model generates them under the constraint."""
    from amask.data.tasks import parse_task
    from amask.lalm.parallel import TaskRow, answer_task_rows
    from amask.mask_bank.dev_scoring import dev_answers

    gates = torch.ones(lalm.geometry.shape)
    gender = parse_task("gr")
    rows = sets[0].features.rows([0, 1, 2])
    served = answer_task_rows(lalm, rows, [TaskRow(at, gates, task=gender) for at in range(3)], max_new_tokens=9)
    assert dev_answers(lalm, gender, gates, sets[0], [0, 1, 2], [""] * 3) == [answer.text for answer in served]
    words, calls, answer = parse_task("asr"), [], lalm.answer
    margins = torch.tensor([[2.0, -1.0], [0.5, torch.inf], [3.0, 0.1]])
    monkeypatch.setattr(lalm, "token_margins", lambda *_: (margins, margins < torch.inf))
    monkeypatch.setattr(lalm, "answer", lambda *args, **how: (calls.append(len(args[0])), answer(*args, **how))[1])
    found = dev_answers(lalm, words, gates, sets[0], [0, 1, 2], ["x", "right", "right too"])
    assert found[1:] == ["right", "right too"]
    assert found[0] == answer(rows.rows([0]), gates, max_new_tokens=lalm.max_tokens_for(["x", "right", "right too"]))[0].text
    assert calls == [1]
