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


def identity(heads, fingerprint="f"):
    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity

    return Identity(Geometry(tuple(heads)), fingerprint, "tiny")


def make(heads, on, fingerprint="f", task="gr", **about):
    """A mask from the bits of the heads that there are."""
    from amask.data.tasks import parse_task
    from amask.mask_bank.mask import HeadMask

    model = identity(heads, fingerprint)
    bits = torch.zeros(model.geometry.shape, dtype=torch.bool)
    bits[model.geometry.present] = torch.tensor(on)
    return HeadMask(bits, model, parse_task(task), **about)


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
    assert same(HeadMask.from_logits(logits, mask.identity), mask)


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
    parents = [{"task": "gr", "digest": a.digest}, {"task": "asr", "digest": b.digest}]
    assert both.lineage == {"operation": "and", "parents": parents}
    assert (both.task, both.logits, dict(both.scores)) == (None, None, {})
    assert (~both).lineage["parents"] == [{"task": "", "digest": both.digest}]


def test_a_digest_names_the_content_and_nothing_else() -> None:
    mask = make((2,), [True, False])
    assert mask.digest == make((2,), [True, False], scores={"acc": 1.0}, lineage={"operation": "train"}).digest
    others = [make((2,), [False, True]), make((2,), [True, False], fingerprint="g"), make((2,), [True, False], task="asr")]
    logits = mask.with_(logits=torch.tensor([[1.0, -1.0]]))
    assert len({other.digest for other in (mask, logits, *others)}) == 5


def test_wrong_masks_are_refused() -> None:
    from amask.errors import MaskError
    from amask.mask_bank.mask import HeadMask

    ragged, even = identity((2, 1)), identity((2, 2))
    with pytest.raises(MaskError, match="shape"):
        HeadMask(torch.ones(2, 3, dtype=torch.bool), even)
    with pytest.raises(MaskError, match="geometry does not have"):
        HeadMask(torch.ones(2, 2, dtype=torch.bool), ragged)
    with pytest.raises(MaskError, match="do not agree"):
        HeadMask(torch.ones(2, 2, dtype=torch.bool), even, logits=-torch.ones(2, 2))
    with pytest.raises(MaskError, match="finite"):
        HeadMask.from_logits(torch.full((2, 2), torch.nan), even)


def test_what_is_frozen_stays() -> None:
    mask = make((2,), [True, False], lineage={"operation": "train"}, scores={"acc": 0.5})
    with pytest.raises(AttributeError):
        mask.task = None
    with pytest.raises(TypeError):
        mask.lineage["operation"] = "none"
    assert mask.with_(task=None).task_name == ""
    assert mask.task_name == "gr"


def test_bits_are_on_or_off() -> None:
    from amask.errors import MaskError
    from amask.mask_bank.mask import HeadMask

    for bits in (torch.full((2, 2), 0.5), torch.ones(2, 2, dtype=torch.uint8), torch.ones(2, 2, dtype=torch.long)):
        unchecked = object.__new__(HeadMask)  # as where shapes and types in signatures are not checked
        object.__setattr__(unchecked, "bits", bits)
        object.__setattr__(unchecked, "identity", identity((2, 2)))
        with pytest.raises(MaskError, match=r"mask bits are torch\..*, expected torch\.bool"):
            unchecked.__post_init__()
    assert set(make((2,), [True, False]).gates.flatten().tolist()) == {0.0, 1.0}


def test_a_mask_is_shown_in_a_line() -> None:
    assert repr(make((2, 2), [True, False, False, False])) == "HeadMask('gr', 2×2, 1 of 4 heads on, tiny)"
    assert repr(~make((1, 2), [True, False, True])) == "HeadMask('', 2×1–2, 1 of 3 heads on, tiny)"


def test_masks_are_saved_and_loaded(tmp_path) -> None:
    from amask.errors import FileError, MaskError
    from amask.mask_bank.mask import HeadMask

    mask = make((2, 2), [True, False, False, False], scores={"dev": 1.0})
    mask.save(tmp_path / "mine.safetensors")
    back = HeadMask.load(str(tmp_path / "mine.safetensors"))
    assert (back.digest, back.scores, back.name) == (mask.digest, {"dev": 1.0}, "gr")
    assert (~mask).save(tmp_path / "not.safetensors").name == "not"
    mask.save(tmp_path / "not.safetensors", "again")  # over what is there
    assert repr(HeadMask.load(tmp_path / "not.safetensors")) == "StoredMask('again@1', 2×2, 1 of 4 heads on, tiny)"
    with pytest.raises(FileError, match=r"must end in \.safetensors"):
        mask.save(tmp_path / "mine.pt")
    with pytest.raises(MaskError, match="no such file"):
        HeadMask.load(tmp_path / "none.safetensors")


def test_stored_masks_are_masks_that_lineages_name(tmp_path) -> None:
    from amask.mask_bank.mask import HeadMask

    gr, asr = make((2,), [True, False]).save(tmp_path / "1.safetensors"), make((2,), [True, True], task="asr")
    both = gr & asr
    assert type(both) is type(~gr) is type(gr.mask) is type(gr.with_(scores={})) is HeadMask
    assert both.lineage["parents"] == [
        {"mask": "gr@1", "task": "gr", "digest": gr.digest},
        {"task": "asr", "digest": asr.digest},
    ]
    assert (~gr).lineage["parents"][0]["mask"] == "gr@1"
    assert gr.mask.digest == gr.digest


FIXED = st.sampled_from([((3, 4, 2), (0,)), ((4, 4), (1,)), ((2, 5, 3), (0, 2))]).flatmap(
    lambda look: st.tuples(
        st.just(look), *[st.lists(st.floats(-3, 3), min_size=3 * 5, max_size=3 * 5) for _ in range(2)], st.integers(0, 9)
    )
)


@settings(deadline=None)
@given(FIXED)
def test_fixed_layers_stay_on_and_are_not_counted(look) -> None:
    from amask.composer.algebra import evaluate
    from amask.composer.expression import parse
    from amask.evaluation.controls import random_like
    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity
    from amask.mask_bank.comparison import compare
    from amask.mask_bank.mask import HeadMask

    (heads, fixed), *drawn, seed = look
    model = Identity(Geometry(heads, fixed), "f", "tiny")
    shape = model.geometry.shape
    a, b = (HeadMask.from_logits(torch.tensor(values)[: shape[0] * shape[1]].view(shape), model) for values in drawn)
    free = [layer for layer in range(len(heads)) if layer not in fixed]
    expressed = [evaluate(parse(text), {"a": a, "b": b}.__getitem__) for text in ("NOT a", "a XOR b", "a MINUS b")]
    for mask in (a, b, a & b, a | b, a ^ b, a - b, ~a, *expressed, random_like(a, seed)):
        assert all(mask.bits[layer, : heads[layer]].all() for layer in fixed)
        assert not (mask.bits & ~model.geometry.present).any()
        assert mask.heads_on == int(mask.bits[free].sum()) <= mask.heads_total == sum(heads[layer] for layer in free)
    assert same(expressed[0], ~a)
    assert same(~~a, a)
    assert a.jaccard(~a) == (1.0 if a.heads_total == 0 else 0.0)
    found = compare([("a", a), ("b", b)])
    assert found.heads_on == (a.heads_on, b.heads_on)
    assert found.pairs[0].both + found.pairs[0].only_first + found.pairs[0].only_second + found.pairs[0].neither == a.heads_total


def test_a_mask_with_a_fixed_head_off_is_refused(tmp_path) -> None:
    from amask.errors import MaskError, ModelError
    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity
    from amask.mask_bank.mask import HeadMask

    model = Identity(Geometry((2, 2), (0,)), "f", "tiny")
    bits = torch.tensor([[True, False], [True, False]])
    with pytest.raises(MaskError, match="off in layer 0"):
        HeadMask(bits, model)
    mask = HeadMask(model.geometry.allowed(bits), model)
    assert mask.save(tmp_path / "mask.safetensors").identity == HeadMask.load(tmp_path / "mask.safetensors").identity == model
    with pytest.raises(MaskError, match="2×2 heads"):  # the same heads of a model that fixes none are another model's
        mask.require(Identity(Geometry((2, 2)), "f", "tiny"))
    for wrong in ((2,), (-1,), (0, 1)):
        with pytest.raises(ModelError, match="fixed layers"):
            Geometry((2, 2), wrong)


def test_masks_are_equal_by_content_and_survive_pickling_and_copying(tmp_path) -> None:
    import copy
    import pickle

    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity
    from amask.mask_bank.mask import HeadMask

    bits = torch.tensor([[True, False, True, True]])
    mask = HeadMask(bits, Identity(Geometry((4,)), "f" * 16, "tiny"), lineage={"operation": "x"}, scores={"dev": 1.0})
    stored = mask.save(tmp_path / "m.safetensors", "m")
    assert mask == stored == HeadMask(bits.clone(), mask.identity)
    assert mask != ~mask
    assert mask != "mask"
    assert len({mask, stored, ~mask}) == 2
    for each in (mask, stored):
        for again in (pickle.loads(pickle.dumps(each)), copy.copy(each), copy.deepcopy(each)):
            assert again == each
            assert (type(again), dict(again.lineage), dict(again.scores)) == (type(each), {"operation": "x"}, {"dev": 1.0})
    assert pickle.loads(pickle.dumps(stored)).spec == "m@1"
