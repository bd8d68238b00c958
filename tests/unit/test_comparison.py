"""Masks side by side, against sets of heads."""

import itertools

import pytest
import torch


def make(seed: int, fingerprint: str = "f", name: str = "tiny", heads: tuple[int, ...] = (4, 3, 4)):
    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity
    from amask.mask_bank.mask import HeadMask

    model = Identity(Geometry(heads), fingerprint, name)
    return HeadMask.from_logits(torch.randn(model.geometry.shape, generator=torch.Generator().manual_seed(seed)), model)


def heads_of(mask) -> set[tuple[int, int]]:
    return {tuple(place) for place in mask.bits.nonzero().tolist()}


def test_against_sets() -> None:
    from amask.mask_bank.comparison import compare

    masks = {name: make(seed) for seed, name in enumerate("abcd")}
    found, sets = compare(list(masks.items())), {name: heads_of(mask) for name, mask in masks.items()}
    assert (found.masks, found.heads_total) == (("a", "b", "c", "d"), 11)
    assert found.heads_on == tuple(len(heads) for heads in sets.values())
    assert found.in_all == len(set.intersection(*sets.values()))
    assert found.in_none == 11 - len(set.union(*sets.values()))
    others = {name: set.union(*(sets[other] for other in sets if other != name)) for name in sets}
    assert found.heads_only == tuple(len(sets[name] - others[name]) for name in sets)
    for pair, (one, other) in zip(found.pairs, itertools.combinations("abcd", 2), strict=True):
        a, b = sets[one], sets[other]
        assert pair.masks == (one, other)
        assert (pair.both, pair.only_first, pair.only_second) == (len(a & b), len(a - b), len(b - a))
        assert pair.neither == 11 - len(a | b)
        assert pair.jaccard == round(masks[one].jaccard(masks[other]), 4) == round(len(a & b) / len(a | b), 4)
        assert found.jaccard["abcd".index(one)]["abcd".index(other)] == pair.jaccard
        assert found.jaccard["abcd".index(other)]["abcd".index(one)] == pair.jaccard
    assert [found.jaccard[at][at] for at in range(4)] == [1.0] * 4
    regions = {region.masks: region.heads for region in found.regions}
    for count in range(1, 5):
        for some in itertools.combinations("abcd", count):
            inside = set.intersection(*(sets[name] for name in some))
            outside = set().union(*(sets[name] for name in sets if name not in some))
            assert regions.get(some, 0) == len(inside - outside)
    assert [region.heads for region in found.regions] == sorted(regions.values(), reverse=True)
    assert found.layers == tuple(tuple(sum(at == layer for at, _ in sets[name]) for name in "abcd") for layer in range(3))


def test_empty_masks_are_alike() -> None:
    from amask.mask_bank.comparison import compare

    empty = make(0) - make(0)
    assert compare([("a", empty), ("b", empty)]).pairs[0].jaccard == 1.0


def test_masks_of_different_models_are_not_compared() -> None:
    from amask.errors import MaskError
    from amask.mask_bank.comparison import compare

    for other in (make(1, "g"), make(1, heads=(4, 4, 4)), make(1, "g", "other")):
        with pytest.raises(MaskError, match="mask 'b' is for .* this model is tiny"):
            compare([("a", make(0)), ("b", other)])
    with pytest.raises(MaskError, match="name two or more"):
        compare([("a", make(0))])


def test_what_was_imported_without_its_model_is_compared_with_masks_of_that_name() -> None:
    from amask.errors import MaskError
    from amask.mask_bank.comparison import compare

    vouched, imported = make(0, "0123", "salmonn"), make(1, "imported:salmonn", "salmonn")
    assert compare([("a", vouched), ("b", imported)]).jaccard == compare([("b", imported), ("a", vouched)]).jaccard
    for other in (make(1, "imported:llama", "llama"), make(1, "imported:salmonn", "salmonn", (4, 4))):
        with pytest.raises(MaskError, match="this model is salmonn"):
            compare([("a", vouched), ("b", other)])
