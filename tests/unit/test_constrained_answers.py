"""`LALM.answer` with forms: answers of a random model in the asked form, row by row, free rows beside them unchanged."""

import pytest
import torch

NAMES = ("gr", "gr-asr", "gr-asr-json", "ser-asr-gr-json")


@pytest.fixture(scope="module")
def lalm(tiny_qwen2_audio):
    from amask.lalm.batching import PromptTemplate
    from amask.lalm.qwen2_audio import Qwen2Audio

    return Qwen2Audio("tiny", *tiny_qwen2_audio(seed=0), PromptTemplate("<|audio_bos|>", "<|audio_eos|>{}"))


@pytest.fixture(scope="module")
def features(lalm, swelling):
    return lalm.encode(swelling((0.4, 1.1, 0.7, 1.9, 0.9)))


@pytest.mark.parametrize("budget", [1, 7, 30])
@pytest.mark.parametrize("beams", [1, 2])
def test_each_row_keeps_its_own_form_and_free_rows_say_what_they_would(lalm, features, budget, beams):
    from amask.data.tasks import parse_task
    from amask.lalm.constrained_decoding import task_constraint

    specs = [parse_task(name) for name in NAMES]
    forms = [*map(task_constraint, specs), None]
    held = lalm.answer(features, constraints=forms, max_new_tokens=budget, beams=beams)
    for spec, answer in zip(specs, held, strict=False):
        found = spec.split(answer.text)
        assert found is not None, answer.text
        assert all(not part.labels or found[part.name] in part.labels for part in spec.parts)
    free = lalm.answer(features, max_new_tokens=budget, beams=beams)[-1]
    if beams == 1:
        assert held[-1] == free
    assert len(held[-1].text) <= budget


def test_gates_and_forms_of_a_row_go_together(lalm, features):
    from amask.data.tasks import parse_task
    from amask.lalm.constrained_decoding import task_constraint

    forms = [
        task_constraint(parse_task("gr-asr")),
        None,
        task_constraint(parse_task("gr")),
        task_constraint(parse_task("ser-gr-json")),
        None,
    ]
    gates = (torch.rand(5, *lalm.geometry.shape, generator=torch.Generator().manual_seed(3)) > 0.4).float()
    together = lalm.answer(features, gates, constraints=forms, max_new_tokens=20)
    alone = [lalm.answer(features.rows([at]), gates[at], constraints=[forms[at]], max_new_tokens=20)[0] for at in range(5)]
    for one, other in zip(together, alone, strict=True):
        assert (one.text, one.truncated) == (other.text, other.truncated)
        assert one.confidence == (other.confidence and pytest.approx(other.confidence, abs=1e-5))


def test_run_holds_answers_to_the_masks_task_unless_they_are_to_be_free(lalm, swelling):
    from amask.data.tasks import parse_task
    from amask.mask_bank.mask import HeadMask

    mask = HeadMask(torch.ones(lalm.geometry.shape) > 0, lalm.identity, task=parse_task("gr"))
    clips = [(wave, lalm.rate) for wave in swelling((0.4, 1.1))]
    assert set(lalm.run(clips, mask)) <= {"female", "male"}
    assert lalm.run(clips, mask, unconstrained=True, max_new_tokens=9) == lalm.run(clips, mask.gates, max_new_tokens=9)
