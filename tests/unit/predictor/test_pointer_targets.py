"""Where parts are spoken of: marks in requests, what tokens are to say, and parts read where the pointer points."""

import math

import numpy as np
import pytest
import torch


@pytest.fixture
def examples():
    from amask.data.tasks import builtin_tasks
    from amask.predictor.synthesis import RequestSource

    return RequestSource(tuple(builtin_tasks().values()))


def test_marks_become_spans():
    from amask.predictor.example import MARKS, Example
    from amask.predictor.intent import Intent

    first, second, _ = MARKS
    example = Example(
        f"{second}words{second}, but {first}the gender{first} first", Intent(("gr", "asr"), "pipe"), fully_labelled=True
    )
    assert example.text == "words, but the gender first"
    assert [example.text[start:end] for start, end in example.part_spans] == ["the gender", "words"]


def test_requests_as_typed_keep_their_marks(examples):
    from amask.predictor.example import MARKS

    rng = np.random.default_rng(0)
    fully_labelled = [each for each in (examples.draw(rng) for _ in range(600)) if each.fully_labelled]
    assert len(fully_labelled) > 150
    for each in fully_labelled:
        assert len(each.part_spans) == len(each.span_tasks)
        assert all(each.text[start:end].strip() for start, end in each.part_spans)
        assert not set(each.text) & set(MARKS)


def test_what_is_excluded_asks_for_nothing(examples):
    rng = np.random.default_rng(1)
    for _ in range(40):
        each = examples.draw_kind("single_with_exclusion", rng)
        assert len(each.intent.parts) == len(each.part_spans) == 1
        start, end = each.part_spans[0]
        (part,) = each.intent.parts
        said = (examples.phrases, examples.german, *examples.imperatives)
        assert any(each.text[start:end] in some[part] for some in said)


def test_targets_of_tokens_and_places():
    from amask.predictor.example import MARKS, Example
    from amask.predictor.intent import UNSUPPORTED, Intent
    from amask.predictor.pointer_targets import UNKNOWN, pointer_targets

    first, second, _ = MARKS
    rows = [
        Example(f"{second}ab{second} c {first}de f{first}", Intent(("gr", "asr"), "pipe"), fully_labelled=True),
        Example("whole", Intent(("ser",))),
        Example("no gender", UNSUPPORTED, fully_labelled=True),
        Example(f"{first}a{first} {second}b{second}", UNSUPPORTED, fully_labelled=True, part_tasks=(None, "ser")),
        Example("far away", UNSUPPORTED),
    ]
    offsets = [[(0, 0), (0, 2), (3, 4), (5, 7), (8, 9)], [(0, 5)], [(0, 2), (3, 9)], [(0, 1), (2, 3)], [(0, 3), (4, 8)]]
    found = pointer_targets(rows, offsets, 5, ("asr", "gr", "ser"))
    assert found.token.tolist() == [[3, 0, 3, 1, 1], [UNKNOWN] * 5, [3, 3, *[UNKNOWN] * 3], [3, 2, *[UNKNOWN] * 3], [UNKNOWN] * 5]
    places = [[row.nonzero().flatten().tolist() for row in slots] for slots in found.where]
    assert places == [[[4, 5], [2], [0]], [[], [0], [0]], [[0], [0], [0]], [[1], [2], [0]], [[], [], []]]


def test_loss_by_hand():
    from amask.predictor.network import PointerOutput
    from amask.predictor.pointer_targets import UNKNOWN, PointerTargets

    token = torch.tensor([[[0.5, 0.5], [0.25, 0.75]]]).log()
    where = torch.tensor([[[0.2, 0.3, 0.5], [0.6, 0.2, 0.2], [0.9, 0.05, 0.05]]]).log()
    targets = PointerTargets(
        torch.tensor([[1, UNKNOWN]]), torch.tensor([[[False, True, True], [False, False, False], [True, False, False]]])
    )
    loss = targets.loss(PointerOutput(token, where, torch.zeros(1, 3, 2)))
    assert float(loss) == pytest.approx(-math.log(0.5) - (math.log(0.8) + math.log(0.9)) / 2, abs=1e-5)


def test_parts_are_read_where_the_pointer_points():
    from amask.predictor.network import Pointer

    torch.manual_seed(0)
    pointer = Pointer(6, 4, 2).eval()
    states, queries = torch.randn(2, 3, 4), torch.randn(2, 2, 4)
    real = torch.tensor([[True, True, True], [True, False, False]])
    found = pointer(queries, states, torch.randn(2, 3, 6), real)
    assert float(found.position_logp.exp()[1, :, 2:].detach().sum()) == pytest.approx(0, abs=1e-6)
    for row in range(2):
        for slot in range(2):
            at = found.position_logp[row, slot].exp()
            for choice in range(3):
                prob = at[0] * (choice == 2) + sum(at[t + 1] * found.token[row, t, choice].exp() for t in range(3))
                assert float(found.part[row, slot, choice].exp().detach()) == pytest.approx(float(prob.detach()), abs=1e-5)


def test_nearby_is_two_convolutions():
    from amask.predictor.network import LocalConv

    torch.manual_seed(0)
    local = LocalConv(6, 4, reach=2).eval()
    vectors, real = torch.randn(2, 7, 6), torch.ones(2, 7, dtype=torch.bool)
    states = local.project(vectors)
    for layer in local.layers:
        states = states + torch.nn.functional.gelu(torch.nn.functional.conv1d(states.mT, layer.weight, layer.bias, padding=2).mT)
    assert torch.allclose(local(vectors, real), local.norm(states), atol=1e-5)
    changed = vectors.clone()
    changed[:, 6] += 1
    assert torch.allclose(local(changed, real)[:, :2], local(vectors, real)[:, :2], atol=1e-6)  # 5 tokens away: not seen
