"""The engine on routes of several masks: composites in parallel, and plans, on a tiny random model."""

import json

import pytest
import soundfile
import torch


@pytest.fixture(scope="module")
def lalm(tiny_qwen2_audio):
    from amask.lalm.batching import PromptTemplate
    from amask.lalm.qwen2_audio import Qwen2Audio

    return Qwen2Audio("tiny", *tiny_qwen2_audio(seed=0), PromptTemplate("<|audio_bos|>", "<|audio_eos|>{}"))


@pytest.fixture(scope="module")
def masks(lalm):
    """Random masks of three tasks."""
    from amask.data.tasks import parse_task
    from amask.mask_bank.mask import HeadMask

    generator = torch.Generator().manual_seed(3)
    return {
        name: HeadMask.from_logits(torch.randn(lalm.geometry.shape, generator=generator), lalm.identity, task=parse_task(name))
        for name in ("gr", "asr", "ser")
    }


@pytest.fixture(scope="module")
def waves(swelling):
    return swelling((0.4, 1.1, 0.7, 1.9, 0.9))


@pytest.fixture(scope="module")
def clips(waves, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for at, wave in enumerate(waves):
        soundfile.write(folder / f"{at}.wav", wave, 16_000, subtype="FLOAT")
    return [folder / f"{at}.wav" for at in range(len(waves))]


@pytest.fixture(scope="module")
def alone(lalm, masks, clips):
    """What each mask answers, held to its form: clip by clip, by the engine in one pass."""
    from amask.serving.engine import RunOptions, answer_clips
    from amask.serving.routing import ByMask

    options = RunOptions(max_new_tokens=12, batch=1)
    return {
        name: [result.text for clip in clips for result in answer_clips(lalm, [clip], ByMask(mask, name, mask.task), options)]
        for name, mask in masks.items()
    }


def test_labels_are_the_likeliest_of_the_set(lalm, masks, waves, alone):
    """The reference: the loss of each label, one after the other."""
    features = lalm.encode(waves)
    labels = masks["gr"].task.parts[0].labels
    losses = torch.stack([lalm.token_losses(features, [label] * len(waves), masks["gr"].gates)[0].sum(1) for label in labels], 1)
    assert alone["gr"] == [labels[at] for at in losses.argmin(1).tolist()]


@pytest.mark.parametrize("name", ["gr-asr", "asr-ser-gr", "gr-asr-json", "ser-asr-gr-json"])
@pytest.mark.parametrize("batch", [2, 16])
def test_parallel_parts_are_exactly_what_their_own_masks_say(lalm, masks, clips, alone, name, batch):
    from amask.data.tasks import parse_task
    from amask.serving.engine import RunOptions, answer_clips
    from amask.serving.routing import Parallel

    spec = parse_task(name)
    route = Parallel(spec, tuple(masks[part] for part in spec.names))
    results = list(answer_clips(lalm, clips, route, RunOptions(max_new_tokens=12, batch=batch)))
    for at, result in enumerate(results):
        assert result.mode == "parallel"
        assert result.parts == {part: alone[part][at] for part in spec.names}
        parts = spec.split(result.text)
        assert parts is not None, result.text
        said = result.parts
        assert parts == (said if spec.form == "json" else {p: " ".join(t.replace("|", " ").split()) for p, t in said.items()})
        if spec.form == "json":
            assert list(json.loads(result.text)) == list(spec.json_keys)


def test_a_plan_asks_of_a_clip_what_its_own_masks_would_say(lalm, masks, clips, alone):
    from amask.serving.engine import RunOptions, answer_clips
    from amask.serving.plan import parse_plan, resolve_plan
    from amask.serving.routing import Plan

    label = alone["gr"][0]
    route = Plan(resolve_plan(parse_plan(f"gr THEN asr IF {label}"), masks.__getitem__))
    results = list(answer_clips(lalm, clips, route, RunOptions(max_new_tokens=12, batch=3)))
    for at, result in enumerate(results):
        chosen = alone["gr"][at] == label
        assert result.mode == "plan"
        assert result.text == (alone["asr"][at] if chosen else "")
        assert result.steps == ((("gr", alone["gr"][at]), ("asr", alone["asr"][at] if chosen else None)),)


def test_rows_of_all_routes_share_batches_and_change_nothing(lalm, masks, waves, alone):
    """A server's batch: one mask, several in parallel, a plan and a prompt, row by row."""
    from amask.data.tasks import parse_task
    from amask.serving.engine import RunOptions, answer_segments
    from amask.serving.plan import parse_plan, resolve_plan
    from amask.serving.routing import ByMask, Parallel, Plan, Prompt

    spec = parse_task("gr-asr")
    routes = [
        ByMask(masks["ser"], "ser", masks["ser"].task),
        Parallel(spec, (masks["gr"], masks["asr"])),
        Plan(resolve_plan(parse_plan("asr THEN ser"), masks.__getitem__)),
        Prompt(text="what"),
        ByMask(masks["asr"], "asr", masks["asr"].task),
    ]
    features = lalm.encode(waves)
    answers = answer_segments(lalm, features, routes, [RunOptions(max_new_tokens=12)] * 5)
    assert answers[0].text == alone["ser"][0]
    assert answers[1].parts == {"gr": alone["gr"][1], "asr": alone["asr"][1]}
    assert answers[2].steps == (alone["asr"][2], alone["ser"][2] if alone["asr"][2] else None)
    assert answers[3].text == lalm.answer(features.rows([3]), None, "what", max_new_tokens=12)[0].text
    assert answers[4].text == alone["asr"][4]


def test_segments_of_a_long_clip_go_through_a_plan_by_themselves(masks):
    from amask.serving.build_result import join_plan_answers
    from amask.serving.plan import final_answer, parse_plan, resolve_plan
    from amask.serving.results import SegmentAnswer
    from amask.serving.routing import Plan

    def joined(plan, steps, weights):
        answers = []
        for said in steps:
            at, text = final_answer(said)
            answers.append(SegmentAnswer(text, {plan.steps[at].mask.task_name: text} if at else {}, steps=said))
        return join_plan_answers(plan, answers, weights)[0]

    plan = Plan(resolve_plan(parse_plan("gr THEN asr IF female THEN ser IF male"), masks.__getitem__))
    women = ("female", "one", None), ("female", "two", None)
    assert joined(plan, women, [1.0, 1.0]) == "one two"
    assert joined(plan, [women[0], ("male", None, "sad"), women[1]], [1.0] * 3) == "one sad two"
    assert joined(plan, [("male", None, "sad"), ("male", None, "happy"), ("", None, None)], [1.0, 2.0, 9.0]) == "happy"
    assert joined(Plan(plan.steps[:2]), [("male", None)], [1.0]) == ""


def test_masks_of_other_models_are_refused_before_anything_is_heard(lalm, masks, clips):
    from amask.data.tasks import parse_task
    from amask.errors import MaskError
    from amask.lalm.identity import Identity
    from amask.serving.engine import answer_clips
    from amask.serving.routing import Parallel

    other = masks["asr"].with_(identity=Identity(lalm.geometry, "0" * 16, "other"))
    with pytest.raises(MaskError, match="other"):
        next(answer_clips(lalm, clips, Parallel(parse_task("gr-asr"), (masks["gr"], other))))
