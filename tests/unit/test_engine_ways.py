"""The engine with several masks: composites in parallel, and plans, on a tiny random model."""

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
    from amask.lalm.constrained_decoding import task_constraint
    from amask.serving.engine import Limits, Order, answer_clips

    return {
        name: [
            reply.text
            for clip in clips
            for reply in answer_clips(
                lalm, [clip], Order(mask.task, mask), Limits(max_new_tokens=12, form=task_constraint(mask.task), batch=1)
            )
        ]
        for name, mask in masks.items()
    }


@pytest.mark.parametrize("name", ["gr-asr", "asr-ser-gr", "gr-asr-json", "ser-asr-gr-json"])
@pytest.mark.parametrize("batch", [2, 16])
def test_parallel_parts_are_exactly_what_their_own_masks_say(lalm, masks, clips, alone, name, batch):
    from amask.data.tasks import parse_task
    from amask.serving.engine import Limits, Order, answer_clips

    spec = parse_task(name)
    order = Order(spec, parts=tuple(masks[part] for part in spec.names))
    replies = list(answer_clips(lalm, clips, order, Limits(max_new_tokens=12, batch=batch)))
    assert order.how == "parallel"
    for at, reply in enumerate(replies):
        parts = spec.split(reply.text)
        assert parts is not None, reply.text
        said = {part: alone[part][at] for part in spec.names}
        assert parts == (said if spec.form == "json" else {p: " ".join(t.replace("|", " ").split()) for p, t in said.items()})
        if spec.form == "json":
            assert list(json.loads(reply.text)) == list(spec.json_keys)


def test_a_plan_asks_of_a_clip_what_its_own_masks_would_say(lalm, masks, clips, alone):
    from amask.serving.engine import Limits, Order, answer_clips
    from amask.serving.plan import parse_plan, resolve_plan

    label = alone["gr"][0]
    order = Order(plan=resolve_plan(parse_plan(f"gr THEN asr IF {label}"), masks.__getitem__))
    replies = list(answer_clips(lalm, clips, order, Limits(max_new_tokens=12, batch=3)))
    assert order.how == "plan"
    for at, reply in enumerate(replies):
        chosen = alone["gr"][at] == label
        assert reply.text == (alone["asr"][at] if chosen else "")
        assert reply.steps == ((alone["gr"][at], alone["asr"][at] if chosen else None),)


def test_pieces_of_a_long_clip_go_through_a_plan_by_themselves(masks):
    from amask.serving.engine import join_steps
    from amask.serving.plan import parse_plan, resolve_plan

    plan = resolve_plan(parse_plan("gr THEN asr IF female THEN ser IF male"), masks.__getitem__)
    women = ("female", "one", None), ("female", "two", None)
    assert join_steps(plan, women, [1.0, 1.0]) == "one two"
    assert join_steps(plan, [women[0], ("male", None, "sad"), women[1]], [1.0] * 3) == "one sad two"
    assert join_steps(plan, [("male", None, "sad"), ("male", None, "happy"), ("", None, None)], [1.0, 2.0, 9.0]) == "happy"
    assert join_steps(plan[:2], [("male", None)], [1.0]) == ""


def test_masks_of_other_models_are_refused_before_anything_is_heard(lalm, masks, clips):
    from amask.data.tasks import parse_task
    from amask.errors import MaskError
    from amask.lalm.identity import Identity
    from amask.serving.engine import Order, answer_clips

    other = masks["asr"].with_(identity=Identity(lalm.geometry, "0" * 16, "other"))
    with pytest.raises(MaskError, match="other"):
        next(answer_clips(lalm, clips, Order(parse_task("gr-asr"), parts=(masks["gr"], other))))
