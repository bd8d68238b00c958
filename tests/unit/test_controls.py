"""Random masks have the heads per layer of the mask that they are held against."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def make_mask():
    """A mask of a ragged geometry, its bits drawn from a seed."""
    import torch

    from amask.data.tasks import parse_task
    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity
    from amask.mask_bank.mask import HeadMask

    def make(heads, seed, share):
        geometry = Geometry(tuple(heads))
        drawn = torch.rand(geometry.shape, generator=torch.Generator().manual_seed(seed))
        logits = torch.where(drawn < share, 1.0, -1.0)
        return HeadMask.from_logits(logits, Identity(geometry, "0" * 16, "toy"), task=parse_task("gr"), scores={"acc": 99.0})

    return make


@settings(max_examples=60, deadline=None)
@given(
    heads=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    share=st.floats(0, 1),
    made=st.integers(0, 99),
    seed=st.integers(0, 2**31),
)
def test_heads_per_layer_are_kept(make_mask, heads, share, made, seed):
    import torch

    from amask.evaluation.controls import random_like

    mask = make_mask(heads, made, share)
    control = random_like(mask, seed)
    assert control.bits.sum(1).tolist() == mask.bits.sum(1).tolist()
    assert control.identity == mask.identity
    assert torch.equal(control.bits, random_like(mask, seed).bits)


def test_every_seed_is_another_mask_without_task_or_scores(make_mask):
    from amask.evaluation.controls import random_like

    mask = make_mask([32] * 8, 0, 0.5)
    one, two = random_like(mask, 1), random_like(mask, 2)
    assert len({bytes(m.bits.flatten().tolist()) for m in (mask, one, two)}) == 3
    # Two random halves of the heads share a third of those that either has on.
    assert one.jaccard(mask) == pytest.approx(1 / 3, abs=0.1)
    assert (one.task, one.logits, dict(one.scores)) == (None, None, {})
    assert dict(one.lineage) == {"operation": "random", "seed": 1, "parents": [mask.reference()]}
