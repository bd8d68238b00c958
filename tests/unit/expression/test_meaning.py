"""What expressions mean: the masks and the logits that they stand for."""

import math
import time

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from amask.composer.expression import And, AtLeast, Not, Or, Xor, parse

from .truth import ALL, NAMES, bits_of, mask_of, random_sets, texts, trees, trees_of, truth

# Shape checking looks at random elements, which hypothesis takes for the strategies' doing.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")


@settings(deadline=None, max_examples=60)
@given(texts(), st.integers(0, 99))
@example(("gr - asr & ser", "m['gr'] & ~ m['asr'] & m['ser']"), 0)
def test_precedence_is_pythons_with_minus_as_and_not(written: tuple[str, str], seed: int) -> None:
    from amask.composer.algebra import evaluate

    text, meant = written
    sets, places = random_sets(seed), sorted(ALL)
    numbers = {name: sum(1 << at for at, place in enumerate(places) if place in on) for name, on in sets.items()}

    def votes(count: int, *parts: int) -> int:
        return sum(1 << at for at in range(len(places)) if sum(part >> at & 1 for part in parts) >= count)

    number = eval(meant, {"m": numbers, "votes": votes})
    on = bits_of(evaluate(parse(text), {name: mask_of(on) for name, on in sets.items()}.__getitem__))
    assert on == {place for at, place in enumerate(places) if number >> at & 1}


@pytest.mark.parametrize(
    ("text", "bracketed"),
    [
        ("NOT gr AND asr", "(NOT gr) AND asr"),
        ("gr OR asr AND ser", "gr OR (asr AND ser)"),
        ("gr AND asr OR ser", "(gr AND asr) OR ser"),
        ("gr XOR asr AND ser", "gr XOR (asr AND ser)"),
        ("gr OR asr XOR ser", "gr OR (asr XOR ser)"),
        ("gr MINUS asr AND ser", "(gr MINUS asr) AND ser"),
        ("gr AND asr MINUS ser", "(gr AND asr) MINUS ser"),
        ("gr MINUS asr MINUS ser", "(gr MINUS asr) MINUS ser"),
        ("gr MINUS NOT asr", "gr MINUS (NOT asr)"),
        ("NOT 2 OF (gr, asr, ser) AND gr", "(NOT (2 OF (gr, asr, ser))) AND gr"),
    ],
)
def test_precedence_by_hand(text: str, bracketed: str) -> None:
    assert parse(text) == parse(bracketed)


@settings(deadline=None)
@given(trees, st.integers(0, 99))
def test_bits_are_the_sets(tree, seed: int) -> None:
    from amask.composer.algebra import evaluate

    sets = random_sets(seed)
    assert bits_of(evaluate(tree, {name: mask_of(on) for name, on in sets.items()}.__getitem__)) == truth(tree, sets)


@settings(deadline=None, max_examples=30)
@given(trees, trees, trees)
def test_boolean_laws(a, b, c) -> None:
    from amask.composer.algebra import evaluate

    masks = {name: mask_of(on) for name, on in random_sets(1).items()}

    def on(tree) -> frozenset:
        return bits_of(evaluate(tree, masks.__getitem__))

    assert on(Not(Not(a))) == on(a)
    assert on(Not(And((a, b)))) == on(Or((Not(a), Not(b))))  # De Morgan
    assert on(Not(Or((a, b)))) == on(And((Not(a), Not(b))))
    assert on(And((a, Or((b, c))))) == on(Or((And((a, b)), And((a, c)))))  # distribution
    assert on(Or((a, And((b, c))))) == on(And((Or((a, b)), Or((a, c)))))
    assert on(And((a, Or((a, b))))) == on(Or((a, And((a, b))))) == on(a)  # absorption
    assert on(And((a, b))) == on(And((b, a))) == on(AtLeast(2, (a, b)))
    assert on(Or((a, b))) == on(Or((b, a))) == on(AtLeast(1, (a, b)))
    assert on(Xor((a, b))) == on(Or((And((a, Not(b))), And((b, Not(a))))))
    assert on(Xor((a, a))) == on(And((a, Not(a)))) == frozenset()
    assert on(Or((a, Not(a)))) == ALL
    assert on(AtLeast(2, (a, b, c))) == on(Or((And((a, b)), And((b, c)), And((a, c)))))


def test_by_hand_in_python_is_the_same(masks) -> None:
    from amask.composer.algebra import evaluate

    gr, asr, ser = masks["gr"], masks["asr"], masks["ser"]
    composed = evaluate(parse("NOT gr & (asr | ser) ^ ser - gr"), masks.__getitem__)
    assert torch.equal(composed.bits, ((~gr & (asr | ser)) ^ (ser - gr)).bits)


def test_k_of_40_takes_milliseconds(masks) -> None:
    from amask.composer.algebra import evaluate

    tree = parse(f"20 OF ({', '.join(['gr', 'asr', 'ser', 'android'] * 10)})")
    started = time.perf_counter()
    composed = evaluate(tree, masks.__getitem__)
    assert time.perf_counter() - started < 1
    assert bits_of(composed) == {
        place for place in ALL if 10 * sum(place in bits_of(masks[name]) for name in ("gr", "asr", "ser", "android")) >= 20
    }


# 0 counts as on, and so does -0.
LOGITS = st.sampled_from([-4.0, -1.0, -1e-45, -0.0, 0.0, 1e-45, 0.5, 4.0]) | st.floats(-9, 9, width=32)


@st.composite
def some_masks(draw) -> dict:
    values = {name: draw(st.lists(LOGITS, min_size=len(ALL), max_size=len(ALL))) for name in NAMES[:4]}
    return {name: mask_of(ALL, dict(zip(sorted(ALL), row, strict=True))) for name, row in values.items()}


@settings(deadline=None)
@given(trees_of(st.sampled_from(NAMES[:4])), some_masks())
def test_logits_switch_the_same_heads_on(tree, masks: dict) -> None:
    from amask.composer.algebra import evaluate, evaluate_logits

    by_logits = evaluate_logits(tree, masks.__getitem__)
    assert by_logits.logits is not None
    assert torch.equal(by_logits.bits, evaluate(tree, masks.__getitem__).bits)


def _one(*logits: float | None) -> list:
    """Masks of one head each; None is a mask without logits that is on."""
    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity
    from amask.mask_bank.mask import HeadMask

    identity = Identity(Geometry((1,)), "f", "m")
    on = HeadMask(torch.tensor([[True]]), identity)
    return [on if logit is None else HeadMask.from_logits(torch.tensor([[logit]]), identity) for logit in logits]


@pytest.mark.parametrize(
    ("text", "logit"),
    [
        ("a AND b", -1.0),
        ("a OR b", 3.0),
        ("NOT a", -3.0),
        ("a MINUS b", 1.0),
        ("a XOR b", 1.0),
        ("a XOR c", -2.0),
        ("2 OF (a, b, c)", 2.0),
        ("a AND d", 3.0),
        ("NOT d", -4.0),
        ("d", 4.0),
    ],
)
def test_logits_by_hand(text: str, logit: float) -> None:
    from amask.composer.algebra import evaluate_logits

    masks = dict(zip("abcd", _one(3.0, -1.0, 2.0, None), strict=True))
    assert evaluate_logits(parse(text), masks.__getitem__).logits.item() == logit


def test_sums_of_logits_by_hand() -> None:
    from amask.composer.algebra import sum_logits
    from amask.errors import MaskError

    masks = _one(3.0, -1.0, None)
    assert sum_logits(masks).logits.item() == 2.0  # the mean of 3, -1 and 4
    assert sum_logits(masks, [1.0, -2.0, 0.5]).logits.item() == 7.0
    weighted = sum_logits(masks, [-1.0, 1.0, 0.0])
    assert (weighted.heads_on, weighted.logits.item()) == (0, -4.0)
    assert weighted.lineage["operation"] == "sum of logits"
    assert weighted.lineage["weights"] == [-1, 1, 0]
    assert len(weighted.lineage["parents"]) == 3
    for bad in (lambda: sum_logits([]), lambda: sum_logits(masks, [1.0, 2.0]), lambda: sum_logits(masks, [1.0, 2.0, math.inf])):
        with pytest.raises(MaskError):
            bad()
    with pytest.raises(MaskError, match="other"):
        sum_logits([mask_of(ALL), mask_of(ALL, model="other")])
