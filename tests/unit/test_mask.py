"""The algebra of masks, and what a mask refuses to be."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

HEADS = ((3,), (4, 4), (2, 5, 3), (1, 1, 1, 1))  # heads a layer, ragged ones among them
LOOKS = st.sampled_from(HEADS).flatmap(
    lambda heads: st.tuples(
        st.just(heads), *[st.lists(st.booleans(), min_size=sum(heads), max_size=sum(heads)) for _ in range(2)]
    )
)


def make(heads, on, **about):
    """A mask from the bits of the heads that there are."""
    from amask.lalm.gating import Geometry
    from amask.mask_bank.mask import HeadMask

    geometry = Geometry(tuple(heads))
    bits = torch.zeros(geometry.shape, dtype=torch.bool)
    bits[geometry.present] = torch.tensor(on)
    return HeadMask(bits, geometry, **({"fingerprint": "f", "model": "tiny", "task": "gr"} | about))


def same(one, other) -> bool:
    return torch.equal(one.bits, other.bits)


@settings(deadline=None)
@given(LOOKS)
def test_algebra(look) -> None:
    heads, first, second = look
    a, b = make(heads, first), make(heads, second)
    assert same(~(a & b), ~a | ~b)  # De Morgan
    assert same(~(a | b), ~a & ~b)
    assert same(~~a, a)
    assert same(a & a, a)
    assert same(a | a, a)
    assert same(a - b, a & ~b)
    assert same(a ^ b, (a - b) | (b - a))
    assert same(a & b, b & a)
    assert same(a | b, b | a)
    assert (a & b).heads_on + (a | b).heads_on == a.heads_on + b.heads_on
    assert a.heads_on + (~a).heads_on == a.heads_total == sum(heads)


@settings(deadline=None)
@given(LOOKS)
def test_jaccard(look) -> None:
    heads, first, second = look
    a, b = make(heads, first), make(heads, second)
    assert a.jaccard(b) == b.jaccard(a)
    assert 0 <= a.jaccard(b) <= 1
    assert a.jaccard(a) == 1
    assert (a.jaccard(b) == 1) == same(a, b)


@settings(deadline=None)
@given(LOOKS)
def test_logits_say_what_is_on(look) -> None:
    from amask.mask_bank.mask import HeadMask

    heads, on, _ = look
    mask = make(heads, on)
    logits = torch.where(mask.bits, 0.0, -1e-6)  # a logit of exactly 0 is on
    assert same(HeadMask.from_logits(logits, mask.geometry, fingerprint="f", model="tiny"), mask)


@pytest.mark.parametrize("combine", ["__and__", "__or__", "__xor__", "__sub__", "jaccard"])
@pytest.mark.parametrize(("heads", "fingerprint"), [((2, 2), "g"), ((4, 4), "f"), ((2, 1), "f")])
def test_masks_of_different_models_never_mix(combine: str, heads: tuple[int, ...], fingerprint: str) -> None:
    from amask.errors import MaskError

    a, b = make((2, 2), [True] * 4), make(heads, [True] * sum(heads), fingerprint=fingerprint)
    with pytest.raises(MaskError, match=r"is for .* this model is tiny \(2×2 heads, f\)") as caught:
        getattr(a, combine)(b)
    assert "\n" not in str(caught.value)


def test_composed_masks_remember_their_parents() -> None:
    a, b = make((2,), [True, False], task="gr"), make((2,), [True, True], task="asr", lineage={"operation": "train"})
    both = a & b
    assert both.lineage == {"operation": "and", "parents": [{"task": "gr"}, {"operation": "train"}]}
    assert (both.task, both.logits, dict(both.scores)) == ("", None, {})
    assert (~both).lineage["parents"] == [dict(both.lineage)]


def test_wrong_masks_are_refused() -> None:
    from amask.errors import MaskError
    from amask.lalm.gating import Geometry
    from amask.mask_bank.mask import HeadMask

    about = {"fingerprint": "f", "model": "tiny"}
    ragged, even = Geometry((2, 1)), Geometry((2, 2))
    with pytest.raises(MaskError, match="shape"):
        HeadMask(torch.ones(2, 3, dtype=torch.bool), even, **about)
    with pytest.raises(MaskError, match="geometry does not have"):
        HeadMask(torch.ones(2, 2, dtype=torch.bool), ragged, **about)
    with pytest.raises(MaskError, match="do not agree"):
        HeadMask(torch.ones(2, 2, dtype=torch.bool), even, logits=-torch.ones(2, 2), **about)
    with pytest.raises(MaskError, match="finite"):
        HeadMask.from_logits(torch.full((2, 2), torch.nan), even, **about)


def test_what_is_frozen_stays() -> None:
    mask = make((2,), [True, False], lineage={"operation": "train"}, scores={"acc": 0.5})
    with pytest.raises(AttributeError):
        mask.task = "asr"
    with pytest.raises(TypeError):
        mask.lineage["operation"] = "none"
    assert mask.with_(task="asr").task == "asr"
    assert mask.task == "gr"
