"""Composite tasks on a tiny random model: rows of several masks, data without joint labels, what is taken and what is kept."""

import json

import numpy as np
import pytest
import soundfile
import torch

CLIPS = 30


def texts(answers) -> list[str]:
    return [answer.text for answer in answers]


@pytest.fixture(scope="module")
def lalm(tiny_qwen2_audio):
    from amask.lalm.batching import PromptTemplate
    from amask.lalm.qwen2_audio import Qwen2Audio

    return Qwen2Audio("tiny", *tiny_qwen2_audio(seed=0), PromptTemplate("<|audio_bos|>", "<|audio_eos|>{}"))


@pytest.fixture(scope="module")
def masks(lalm):
    """Random masks of two tasks."""
    from amask.data.tasks import parse_task
    from amask.mask_bank.mask import HeadMask

    generator = torch.Generator().manual_seed(3)
    return {
        name: HeadMask.from_logits(torch.randn(lalm.geometry.shape, generator=generator), lalm.identity, task=parse_task(name))
        for name in ("gr", "asr", "ser")
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Short clips of noise."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(1)
    for at in range(CLIPS):
        soundfile.write(folder / f"{at}.wav", rng.normal(0, 0.1, 4000 + 160 * at), 16_000)
    return folder


@pytest.fixture
def manifest(folder):
    """Makes a manifest of labels, one in three for dev."""
    from amask.data.manifest import Clip, Manifest

    def make(labels, clips=CLIPS):
        def split(at):
            return "dev" if at % 3 == 0 else "test" if at % 10 == 1 else "train"

        clips = [Clip(path=f"{at % CLIPS}.wav", labels=labels(at % CLIPS), split=split(at)) for at in range(clips)]
        return Manifest(tuple(clips), folder)

    return make


def both(at):
    return {"gr": "male" if at % 2 else "female", "asr": f"word {at}"}


def test_rows_of_several_masks_equal_separate_runs(lalm, masks, swelling):
    from amask.lalm.parallel import answer_rows

    waves = swelling((0.4, 1.1, 0.7, 1.9, 0.9))
    rows = answer_rows(lalm, lalm.encode(waves), list(masks.values()), max_new_tokens=12, batch=7)
    together = [[answer.text for answer in answers] for answers in rows]
    alone = [texts(lalm.answer(lalm.encode(waves), mask.gates, max_new_tokens=12)) for mask in masks.values()]
    assert together == alone
    assert len({tuple(answers) for answers in alone}) == len(masks), "the masks answer alike, so this shows nothing"


@pytest.mark.parametrize("text", ["plain", "a|b", 'quo"te', "back\\slash", "two\nlines", "Grüße 🎧", ""])
def test_what_is_assembled_is_in_the_form_whatever_the_parts_say(text):
    from amask.data.tasks import parse_task
    from amask.lalm.parallel import assemble

    for name in ("gr-asr", "gr-asr-json", "asr-gr-ser", "asr-gr-ser-json"):
        spec = parse_task(name)
        answers = dict.fromkeys(spec.names, "x") | {"asr": text}
        found = spec.split(assemble(spec, answers))
        assert found is not None
        assert found["gr"] == "x"
        assert found["asr"] == (text if "json" in name else " ".join(text.replace("|", " ").split()))


def test_clips_with_all_labels_are_used_where_there_are_enough(lalm, masks, manifest):
    from amask.composer.composite_data import build_composite_data
    from amask.data.tasks import parse_task

    joint = build_composite_data(lalm, manifest(both), parse_task("gr-asr"), masks)
    assert joint.labels == {"from": "data"}
    assert {clip.split for clip in joint.manifest} == {"train", "dev"}
    assert all(clip.labels == both(int(clip.path[:-4])) for clip in joint.manifest)


def test_own_masks_label_clips_of_different_corpora_and_the_lineage_says_so(lalm, masks, manifest):
    from amask.composer.composite_data import build_composite_data
    from amask.data.tasks import Task, TaskSpec

    letters = {"one": "asr", "two": "ser"}  # two tasks of open text, which a random model can answer
    tasks = {name: Task(name=name, metric="wer") for name in letters}
    own = {name: masks[mask].with_(task=TaskSpec(parts=(tasks[name],))) for name, mask in letters.items()}
    spec = TaskSpec(parts=tuple(tasks.values()), form="json")
    data = manifest(lambda at: {"one": "x"} if at % 2 else {"two": "y"})
    joint = build_composite_data(lalm, data, spec, own)
    assert joint.self_labelled
    assert joint.labels["masks"] == {name: {"task": name, "digest": own[name].digest} for name in own}
    assert len(joint.manifest) > 0
    clip = joint.manifest.clips[-1]
    features = lalm.encode([data.wave(clip, lalm.rate)])
    for name, mask in own.items():
        assert clip.labels[name] == texts(lalm.answer(features, mask.gates, max_new_tokens=64))[0].strip()
    asked = build_composite_data(lalm, manifest(lambda _: {"one": "x", "two": "y"}), spec, own, self_label=True)
    assert asked.self_labelled


@pytest.mark.parametrize("split", ["train", "test"])
def test_candidates_are_never_measured_on_clips_that_are_trained_on(lalm, masks, manifest, split):
    """Data without dev clips give some of theirs; data of test clips alone are divided, as for `bank train`."""
    from dataclasses import replace

    from amask.composer.composite_data import build_composite_data
    from amask.data.tasks import parse_task

    data = manifest(both)
    data = replace(data, clips=tuple(clip.model_copy(update={"split": split}) for clip in data))
    joint = build_composite_data(lalm, data, parse_task("gr-asr"), masks)
    dev = {clip.path for clip in joint.manifest if clip.split == "dev"}
    assert dev
    assert {clip.path for clip in joint.dev(48)} == dev
    assert {clip.split for clip in joint.manifest} == {"train", "dev"}


def test_train_clips_are_held_out_where_dev_clips_lack_a_label_and_a_warning_says_so(lalm, masks, manifest, caplog):
    from amask.composer.composite_data import MAX_HELD_OUT, build_composite_data
    from amask.data.tasks import parse_task

    data = manifest(lambda at: {"gr": "male"} if at % 3 == 0 else both(at), 60)  # no dev clip has words
    found = build_composite_data(lalm, data, parse_task("gr-asr"), masks, dev_clips=30)
    held, train = ([clip for clip in found.manifest if clip.split == split] for split in ("dev", "train"))
    assert not found.self_labelled
    assert len(held) == int((len(held) + len(train)) * MAX_HELD_OUT) > 0
    assert len(held) + len(train) == 36
    assert f"{len(held)} train clips are held out as dev clips" in caplog.text


def test_clips_without_any_label_are_labelled_where_that_is_asked_for(lalm, masks, manifest):
    from amask.composer.composite_data import build_composite_data
    from amask.data.tasks import parse_task
    from amask.errors import DataError

    spec = parse_task("gr-ser")
    with pytest.raises(DataError, match="can be labelled"):
        build_composite_data(lalm, manifest(lambda _: {}), spec, masks)
    assert len(build_composite_data(lalm, manifest(lambda _: {}), spec, masks, self_label=True).manifest) > 0


def test_own_masks_labels_are_of_the_parts_labels(lalm, masks, manifest):
    from amask.composer.composite_data import build_composite_data
    from amask.data.tasks import parse_task

    spec = parse_task("gr-ser")
    joint = build_composite_data(lalm, manifest(lambda at: {"gr": "male"}), spec, masks)
    assert joint.self_labelled
    assert all(clip.labels[part.name] in part.labels for clip in joint.manifest for part in spec.parts)


def test_a_search_has_no_more_clips_labelled_than_it_needs(lalm, masks, manifest):
    """On a large model each answer is dear: train clips are labelled only once something is trained."""
    from amask.composer.composite_data import LABEL_BATCH, build_composite_data
    from amask.data.tasks import parse_task

    spec, told = parse_task("gr-ser"), []
    data = manifest(lambda at: {"gr": "male"})
    joint = build_composite_data(
        lalm, data, spec, masks, dev_clips=2, dev_only=True, on_progress=lambda done, _total: told.append(done)
    )
    assert [clip.split for clip in joint.manifest] == ["dev", "dev"]
    assert told == [min(LABEL_BATCH, len(data.select("dev")))]


def test_without_clips_of_any_part_there_is_no_composite(lalm, masks, manifest):
    from amask.composer.composite_data import build_composite_data
    from amask.data.tasks import parse_task
    from amask.errors import DataError

    with pytest.raises(DataError, match="no clip of the data can be labelled for gr-ser"):
        build_composite_data(lalm, manifest(lambda at: {"aac": "a dog"}), parse_task("gr-ser"), masks)


@pytest.fixture
def bank(masks, tmp_path):
    from amask.mask_bank.bank import MaskBank

    bank = MaskBank(tmp_path / "bank")
    for name, mask in masks.items():
        bank.add(mask, name)
    return bank


@pytest.fixture
def compose(lalm, bank, manifest):
    from amask.composer.composite import Events, SearchOptions, compose_task
    from amask.composer.expression import parse

    def run(text="gr AND asr", form="pipe", clips=CLIPS, train=None, told=None, **options):
        events = Events(on_result=told.append) if told is not None else None
        options = SearchOptions(form, **options)
        return compose_task(lalm, bank, parse(text), manifest(both, clips), options, train=train, events=events)

    return run


def test_where_no_candidate_reaches_the_target_the_best_is_the_start_of_a_training(compose, masks, bank):
    asked, told = [], []

    def train(spec, data, start):
        asked.append((spec.name, {clip.split for clip in data}, start))
        return masks["ser"].with_(task=spec, lineage={"operation": "trained"}, scores={"dev": 1.0})

    composed = compose(train=train, told=told)
    assert composed.how == ("trained" if composed.result.candidate.name.startswith("trained") else "selected")
    assert [each[:2] for each in asked] == [("gr-asr", {"train", "dev"})]
    most = max(each.clips for each in told[:-1])
    best = min((each for each in told[:-1] if each.clips == most), key=lambda each: each.loss)
    assert torch.equal(asked[0][2].bits, best.candidate.mask.bits)
    assert told[-1].candidate.name == f"trained from {best.candidate.name}"
    record = composed.mask.lineage["composite"]
    assert record["target"] == {"ifr": 99.0, "margin": 5.0}
    assert record["masks"] == [bank.get(name).reference() for name in ("gr", "asr")]
    assert [row["candidate"] for row in record["table"]] == [each.candidate.name for each in told]
    assert not record["reached"]
    assert "confirmation clips are too few" in record["confirmation"]["reason"]


def test_the_clips_that_confirm_are_neither_chosen_on_nor_trained_on(compose):
    from amask.composer import composite

    seen, build = [], composite.build_dev_evaluator

    def train(spec, data, start):
        seen.append({clip.path for clip in data})
        return start.with_(task=spec)

    def spy(model, spec, part_masks, clips):
        seen.append({clip.path for clip in clips})
        return build(model, spec, part_masks, clips)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(composite, "build_dev_evaluator", spy)
        composed = compose(train=train)
    chosen_on, confirmed_on, trained_on = seen[:3]
    assert composed.confirmation.clips == len(confirmed_on) > 0
    assert not chosen_on & confirmed_on
    assert not trained_on & confirmed_on
    assert chosen_on < trained_on


def test_what_was_trained_for_this_very_composite_is_trained_again_only_if_asked_for(compose, masks, bank):
    from amask.data.tasks import parse_task

    made = (~masks["ser"]).with_(task=parse_task("gr-asr"), lineage={"operation": "train"})
    bank.add(made, "mine")
    trained = []

    def train(spec, _data, start):
        trained.append(start.digest)
        return start.with_(task=spec)

    composed = compose(train=train)
    if composed.result.candidate.name == "mine@1":  # random masks: it need not be the best
        assert (composed.how, composed.confirmation.reached) == ("selected", False)
        assert not trained
    trained.clear()
    compose(train=train, retrain=True)
    assert len(trained) == 1


def test_without_training_the_best_candidate_is_taken_with_its_record_and_stored_once(compose, bank):
    first = compose(form="json", keys=("gender", "text"))
    assert first.how == "selected"
    assert first.mask.task.json_keys == ("gender", "text")
    stored = bank.add(first.mask, "gr-asr-json").stored
    assert stored.reached_target is False
    assert stored.scores["ifr"] == first.result.ifr
    again = bank.add(compose(form="json", keys=("gender", "text")).mask, "gr-asr-json")
    assert again.stored.version == stored.version
    json.dumps(dict(stored.lineage))


def test_a_relative_of_the_bank_that_reaches_the_target_is_taken_and_keeps_its_training(lalm, bank, compose, masks, monkeypatch):
    """The model is made to answer right under one mask, and as their own tasks ask under the parts' masks."""
    from amask.composer import composite
    from amask.composer.candidates import mask_key
    from amask.data.tasks import parse_task

    spec = parse_task("gr-asr")
    good = (~masks["ser"]).with_(task=spec, lineage={"operation": "trained", "dev_data": "1"}, scores={"dev": 93.0})
    bank.add(good, "mine")

    place = {mask_key(masks["gr"]): 0, mask_key(masks["asr"]): 1}

    def said(mask, task, right):
        if len(task.parts) == 1:
            return right.split("|")[place[mask_key(mask)]]
        return right if mask_key(mask) == mask_key(good) else "female|"

    def answer(self, jobs, clips):
        return [[said(mask, task, self.references[at]) for at in clips] for mask, task in jobs]

    monkeypatch.setattr(composite.DevEvaluator, "answer", answer)

    def train(*_):
        raise AssertionError("a candidate reaches the target")

    composed = compose(train=train, clips=330)
    assert composed.how == "selected"
    assert composed.confirmation.reached, composed.confirmation
    assert composed.confirmation.clips >= 65
    assert composed.result.candidate.name == "mine@1"
    assert composed.mask.digest == good.digest
    assert (composed.mask.lineage["operation"], composed.mask.scores["dev"]) == ("trained", 93.0)
    assert composed.mask.scores["ifr"] == 100.0
    added = bank.add(composed.mask, "mine")
    assert added.default
    assert (added.stored.version, added.stored.reached_target) == (2, True)
    assert bank.add(compose(clips=330).mask, "mine").stored.version == 2


@pytest.mark.parametrize(
    ("text", "options", "problem"),
    [
        ("gr", {}, "joins two masks or more"),
        ("NOT gr", {}, "joins two masks or more"),
        ("gr AND gr@1", {}, "names a part twice"),
        ("gr AND asr", {"form": "json", "keys": ("a",)}, "as many as the parts"),
        ("gr AND asr", {"form": "json", "keys": ("a", "a")}, "all different"),
    ],
)
def test_what_makes_no_composite_is_one_line(compose, text, options, problem):
    from amask.errors import MaskError

    with pytest.raises(MaskError, match=problem):
        compose(text, **options)


def test_effects_tell_what_a_set_operation_does_on_each_parents_task(lalm, masks, manifest):
    from amask.composer.effects import measure_side_effects

    parents = {"gr": masks["gr"], "asr": masks["asr"]}
    effects = measure_side_effects(lalm, masks["gr"], parents, manifest(both), clips=5)
    assert [(each.task, each.metric, each.clips) for each in effects] == [("gr", "acc", 5), ("asr", "wer", 5)]
    assert effects[0].value == effects[0].own  # it is gr's own mask
    assert effects[1].value != effects[1].own
    assert "its own mask" in str(effects[0])


def test_what_masks_of_one_task_agree_on_is_measured_beside_a_random_mask_of_its_size(lalm, masks, manifest):
    from amask.data.metrics import score
    from amask.errors import MaskError
    from amask.evaluation.agreement import measure_agreement
    from amask.lalm.answering import MAX_NEW_TOKENS

    seeds = {"a": masks["asr"], "b": masks["ser"].with_(task=masks["asr"].task)}
    found = measure_agreement(lalm, seeds, manifest(both), clips=2)
    shared = seeds["a"] & seeds["b"]
    assert [(each.name, each.metric, each.clips) for each in found] == [
        (name, "wer", 2) for name in ("a", "b", "intersection", "union", "random, of its size")
    ]
    assert found[2].heads_on == found[4].heads_on == shared.heads_on
    assert found[3].heads_on == (seeds["a"] | seeds["b"]).heads_on
    clips = [clip for clip in manifest(both) if clip.split == "test"]
    assert len(clips) == 2
    waves = [manifest(both).wave(clip, lalm.rate) for clip in clips]
    said = texts(lalm.answer(lalm.encode(waves), shared.gates, max_new_tokens=MAX_NEW_TOKENS))
    references = [clip.labels["asr"] for clip in clips]
    assert found[2].value == pytest.approx(score(masks["asr"].task, said, references)[0].value, abs=0.01)
    with pytest.raises(MaskError, match="two or more of one task"):
        measure_agreement(lalm, {"a": masks["asr"], "b": masks["gr"]}, manifest(both))
