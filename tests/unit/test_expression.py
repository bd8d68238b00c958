"""Boolean expressions: reading, printing and naming them, and the masks they stand for, against Python's own sets and parser."""

import itertools
import math
import random
import re
import subprocess
import sys
import time
from functools import reduce

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from amask.composer import expression as language
from amask.composer.expression import And, AtLeast, Name, Not, Or, Xor, name_of, names_in, parse, to_text

# Shape checking looks at random elements, which hypothesis takes for the strategies' doing.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

HEADS = (5, 2, 4)  # a ragged geometry
ALL = frozenset((layer, head) for layer, heads in enumerate(HEADS) for head in range(heads))
NAMES = ("gr", "asr", "ser", "gr-asr-json", "android", "not-gr", "my+mask", "gr@2", "and", "2")
OPERATORS = {"AND": "&", "and": "&", "&": "&", "OR": "|", "or": "|", "|": "|", "XOR": "^", "Xor": "^", "^": "^"}
OPERATORS |= {"MINUS": "& ~", "minus": "& ~", "-": "& ~"}


# --- The masks that names stand for, as sets and as masks ----------------------------------------------------------------


def _sets(seed: int) -> dict[str, frozenset]:
    chance = random.Random(seed)
    return {name: frozenset(place for place in ALL if chance.random() < 0.5) for name in NAMES}


def _mask(on: frozenset, logits: dict | None = None, model: str = "m"):
    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity
    from amask.mask_bank.mask import HeadMask

    identity = Identity(Geometry(HEADS), f"of {model}", model)
    values = torch.full(identity.geometry.shape, -1.0)
    for place in ALL:
        values[place] = logits[place] if logits else 2.0 * (place in on) - 1
    mask = HeadMask.from_logits(values, identity)
    return mask if logits else mask.with_(logits=None)


def _evaluate_bits(mask) -> frozenset:
    return frozenset(place for place in ALL if bool(mask.bits[place]))


@pytest.fixture(scope="module")
def sets() -> dict[str, frozenset]:
    return _sets(0)


@pytest.fixture(scope="module")
def masks(sets) -> dict:
    return {name: _mask(on) for name, on in sets.items()}


# --- Expressions at random -----------------------------------------------------------------------------------------------

bank_names = st.from_regex(r"[a-z0-9][a-z0-9._+-]{0,12}(@[1-9][0-9]{0,3})?", fullmatch=True)
any_names = st.text(min_size=1, max_size=8).filter(lambda text: text.isprintable() and not {"'", '"'} <= set(text))


def _trees(names: st.SearchStrategy[str], leaves: int = 12) -> st.SearchStrategy:
    def deeper(trees: st.SearchStrategy) -> st.SearchStrategy:
        several = st.lists(trees, min_size=2, max_size=4).map(tuple)
        votes = st.lists(trees, min_size=1, max_size=5).flatmap(
            lambda operands: st.builds(AtLeast, st.integers(1, len(operands)), st.just(tuple(operands)))
        )
        return st.one_of(trees.map(Not), several.map(And), several.map(Or), several.map(Xor), votes)

    return st.recursive(names.map(Name), deeper, max_leaves=leaves)


trees = _trees(st.sampled_from(NAMES))


def _truth(tree, sets: dict[str, frozenset]) -> frozenset:
    """What a tree means, by sets of (layer, head)."""
    if isinstance(tree, Name):
        return sets[tree.name]
    parts = [_truth(part, sets) for part in tree.parts]
    if isinstance(tree, Not):
        return ALL - parts[0]
    if isinstance(tree, AtLeast):
        return frozenset(place for place in ALL if sum(place in part for part in parts) >= tree.count)
    meaning = {And: frozenset.intersection, Or: frozenset.union, Xor: frozenset.symmetric_difference}
    return reduce(meaning[type(tree)], parts)


@st.composite
def texts(draw, depth: int = 2) -> tuple[str, str]:
    """An expression as a user may write it, and the same for Python's own parser, on bits of integers."""

    def operand(depth: int) -> tuple[str, str]:
        kind = draw(st.sampled_from(["name", "name", "not", "brackets", "votes"] if depth else ["name"]))
        if kind == "not":
            written, meant = operand(depth - 1)
            return draw(st.sampled_from(["NOT ", "not ", "~", "~ "])) + written, f"(~{meant})"
        if kind == "brackets":
            written, meant = several(depth - 1)
            return f"({written})", f"({meant})"
        if kind == "votes":
            parts = [several(depth - 1) for _ in range(draw(st.integers(2, 3)))]
            count = draw(st.integers(1, len(parts)))
            written, meant = (", ".join(sides) for sides in zip(*parts, strict=True))
            return f"{count} {draw(st.sampled_from(['OF', 'of']))} ({written})", f"votes({count}, {meant})"
        name = draw(st.sampled_from(NAMES))
        return draw(st.sampled_from(["'{}'", '"{}"'] if name == "and" else ["{}", '"{}"'])).format(name), f"m[{name!r}]"

    def several(depth: int) -> tuple[str, str]:
        written, meant = operand(depth)
        for word in draw(st.lists(st.sampled_from(list(OPERATORS)), max_size=3)):
            more, means = operand(depth)
            written, meant = f"{written} {word} {more}", f"{meant} {OPERATORS[word]} {means}"
        return written, meant

    return several(depth)


# --- What expressions mean -----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(texts(), st.integers(0, 99))
@example(("gr - asr & ser", "m['gr'] & ~ m['asr'] & m['ser']"), 0)
def test_precedence_is_pythons_with_minus_as_and_not(written: tuple[str, str], seed: int) -> None:
    from amask.composer.algebra import evaluate

    text, meant = written
    sets, places = _sets(seed), sorted(ALL)
    numbers = {name: sum(1 << at for at, place in enumerate(places) if place in on) for name, on in sets.items()}

    def votes(count: int, *parts: int) -> int:
        return sum(1 << at for at in range(len(places)) if sum(part >> at & 1 for part in parts) >= count)

    number = eval(meant, {"m": numbers, "votes": votes})
    on = _evaluate_bits(evaluate(parse(text), {name: _mask(on) for name, on in sets.items()}.__getitem__))
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

    sets = _sets(seed)
    assert _evaluate_bits(evaluate(tree, {name: _mask(on) for name, on in sets.items()}.__getitem__)) == _truth(tree, sets)


@settings(deadline=None, max_examples=30)
@given(trees, trees, trees)
def test_boolean_laws(a, b, c) -> None:
    from amask.composer.algebra import evaluate

    masks = {name: _mask(on) for name, on in _sets(1).items()}

    def on(tree) -> frozenset:
        return _evaluate_bits(evaluate(tree, masks.__getitem__))

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
    assert _evaluate_bits(composed) == {
        place for place in ALL if 10 * sum(place in _evaluate_bits(masks[name]) for name in ("gr", "asr", "ser", "android")) >= 20
    }


# --- Logits --------------------------------------------------------------------------------------------------------------

# 0 counts as on, and so does -0.
LOGITS = st.sampled_from([-4.0, -1.0, -1e-45, -0.0, 0.0, 1e-45, 0.5, 4.0]) | st.floats(-9, 9, width=32)


@st.composite
def some_masks(draw) -> dict:
    values = {name: draw(st.lists(LOGITS, min_size=len(ALL), max_size=len(ALL))) for name in NAMES[:4]}
    return {name: _mask(ALL, dict(zip(sorted(ALL), row, strict=True))) for name, row in values.items()}


@settings(deadline=None)
@given(_trees(st.sampled_from(NAMES[:4])), some_masks())
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
        sum_logits([_mask(ALL), _mask(ALL, model="other")])


# --- Text ----------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(_trees(bank_names | any_names | st.sampled_from(["and", "NOT", "Of", "2", "-", "a b", "it's", '"'])))
@example(And((Not(Name("a")), Not(Not(Name("b"))), Not(And((Name("a"), Name("b")))))))
def test_text_reads_back_as_the_same_tree(tree) -> None:
    text = to_text(tree)
    assert parse(text) == tree
    assert to_text(parse(text)) == text


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("gr&asr|~ser", "gr AND asr OR NOT ser"),
        ("((gr)) - (asr - ser)", "gr MINUS (asr MINUS ser)"),
        ("(gr OR asr) AND (ser XOR gr)", "(gr OR asr) AND (ser XOR gr)"),
        ("gr AND (asr AND ser)", "gr AND asr AND ser"),
        ("gr AND NOT asr", "gr MINUS asr"),
        ("gr OR (asr XOR (ser AND (NOT gr)))", "gr OR asr XOR ser MINUS gr"),
        ("2 of ((gr | asr),'or', \"gr\")", '2 OF (gr OR asr, "or", gr)'),
        ("gr -asr", "gr MINUS asr"),
        ("(gr)-asr", "gr MINUS asr"),
    ],
)
def test_text_has_no_more_brackets_than_it_needs(text: str, printed: str) -> None:
    assert to_text(parse(text)) == printed


@settings(deadline=None)
@given(st.data())
def test_every_name_of_the_bank_is_a_name(data) -> None:
    from amask.mask_bank.versions import SPEC

    spec = data.draw(st.from_regex(SPEC, fullmatch=True))
    assert parse(f'"{spec}"') == parse(to_text(Name(spec))) == Name(spec)
    if spec not in ("and", "or", "xor", "minus", "not", "of"):
        assert parse(spec) == Name(spec)


def test_names_with_hyphens_and_minus() -> None:
    assert parse("a-b") == Name("a-b")
    assert parse("a - b") == And((Name("a"), Not(Name("b"))))
    assert parse("not-gr AND or-else") == And((Name("not-gr"), Name("or-else")))
    assert parse("and.x | of@2") == Or((Name("and.x"), Name("of@2")))


def test_names_in_order_each_once() -> None:
    tree = parse("asr AND (gr OR asr@2) MINUS gr")
    assert [(leaf.name, leaf.span.start) for leaf in names_in(tree)] == [("asr", 1), ("gr", 10), ("asr@2", 16)]


def test_every_node_has_its_columns() -> None:
    text = ' NOT gr-asr AND\t(2 OF (gr, "or", ser) \n XOR asr MINUS ser)'

    def places(tree):
        yield type(tree).__name__, text[tree.span.start - 1 : tree.span.end - 1]
        for part in tree.parts:
            yield from places(part)

    assert list(places(parse(text))) == [
        ("And", text[1:]),
        ("Not", "NOT gr-asr"),
        ("Name", "gr-asr"),
        ("Xor", '2 OF (gr, "or", ser) \n XOR asr MINUS ser'),
        ("AtLeast", '2 OF (gr, "or", ser)'),
        ("Name", "gr"),
        ("Name", '"or"'),
        ("Name", "ser"),
        ("And", "asr MINUS ser"),
        ("Name", "asr"),
        ("Not", "MINUS ser"),
        ("Name", "ser"),
    ]


def test_parsing_needs_no_torch() -> None:
    code = "import sys; from amask.composer.expression import parse; parse('gr AND asr'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0


# --- Names for the bank --------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(_trees(bank_names | any_names | st.sampled_from(["and", "a" * 100, "x.safetensors"]), leaves=30))
def test_the_bank_takes_the_name_and_it_reads_back(tree) -> None:
    from amask.mask_bank.bank import parse_spec

    name = name_of(tree)
    assert parse_spec(name) == (name, None)
    assert parse(name) == Name(name)


def test_other_trees_have_other_names() -> None:
    def layer(trees):
        yield from map(Not, trees)
        for pair in itertools.product(trees, repeat=2):
            yield from (And(pair), Or(pair), Xor(pair), AtLeast(1, pair), AtLeast(2, pair))

    leaves = [Name(name) for name in ("a", "b", "not-a", "a-and-b", "and", "a@2", "a.2", "A", "not", "or-b", "a--b")]
    some = [*leaves, *layer(leaves)]
    more = [*some, *layer([*leaves[:3], *layer(leaves[:1])]), *(Name(name_of(tree)) for tree in some if name_of(tree) != "a")]
    found: dict[str, object] = {}
    for tree in more:
        assert found.setdefault(name_of(tree), tree) == tree
    assert len(found) > 1000


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("gr", "gr"),
        ("gr & asr", "gr-and-asr"),
        ("NOT gr", "not-gr"),
        ("gr MINUS asr OR ser", "gr-minus-asr-or-ser"),
        ("gr-asr-json AND my+mask", "gr-asr-json-and-my+mask"),
        ("(gr AND asr) OR ser", "gr-and-asr-or-ser"),
        ("gr AND (asr OR ser)", r"gr-and-asr-or-ser--[0-9a-f]{8}"),
        ("not-gr AND asr", r"not-gr-and-asr--[0-9a-f]{8}"),
        ("gr@2 AND asr", r"gr\.2-and-asr--[0-9a-f]{8}"),
        ("2 OF (gr, asr, ser)", r"2-of-gr-asr-ser--[0-9a-f]{8}"),
        (" AND ".join(["gr", "asr"] * 20), r"(gr-and-asr-and-){5}gr-and-asr-and--[0-9a-f]{8}"),
    ],
)
def test_names_by_hand(text: str, name: str) -> None:
    assert re.fullmatch(name.replace("+", r"\+"), name_of(parse(text))), name_of(parse(text))


# --- Errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the expression is empty"),
        (" \n", "the expression is empty"),
        ("gr AND", "at column 7 of 'gr AND'; got its end, expected a mask's name"),
        ("gr AND AND asr", "at column 8 .* got 'AND', expected a mask's name"),
        ("gr asr", "at column 4 of 'gr asr'; got 'asr', expected AND"),
        ("gr- asr", "at column 5 .* got 'asr', expected AND"),
        ("(gr", r"at column 4 of '\(gr'; got its end"),
        ("gr)", r"at column 3 .* got '\)'"),
        ("gr AND (asr OR)", r"at column 15 .* got '\)'"),
        ("gr/asr", "at column 3 .* got '/'"),
        ("gr@x", "at column 3 .* got '@'"),
        ("gr AND 'asr", "at column 8 .* expected another"),
        ("2 OF gr", r"at column 6 .* expected '\('"),
        ("NOT and", "at column 5 .* in quotes"),
        ('gr AND ""', "'' cannot be a mask's name, at column 8"),
        ("'a\nb'", r"'a\\nb' cannot be a mask's name, at column 1"),
        ("2 OF (gr)", r"cannot count 2 of 1, at column 1 of '2 OF \(gr\)'; say 1 to 1 OF"),
        ("gr AND 5 OF (gr, asr)", "cannot count 5 of 2, at column 8 of .*; say 1 to 2 OF"),
        ("0 OF (gr, asr)", "cannot count 0 of 2, at column 1"),
        ("9999999999 OF (gr, asr)", "at column 12 .* got 'OF'"),
    ],
)
def test_errors_name_the_column(text: str, message: str) -> None:
    from amask.errors import MaskError

    with pytest.raises(MaskError, match=message) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_a_long_text_is_shown_around_the_column() -> None:
    from amask.errors import MaskError

    with pytest.raises(MaskError) as caught:
        parse("gr AND " * 500 + "gr asr" + " AND gr" * 500)
    assert "at column 3504 of '…" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_errors_of_the_lookup_gain_the_column(masks) -> None:
    from amask.composer.algebra import evaluate
    from amask.errors import BankError, MaskError

    def lookup(name: str):
        if name not in masks:
            raise BankError(f"no mask {name!r}")
        return masks[name]

    with pytest.raises(BankError, match=r"^no mask 'grr' \(at column 8 of 'gr AND grr'\)$"):
        evaluate(parse("gr AND grr"), lookup)
    with pytest.raises(BankError, match=r"^no mask 'grr'$"):
        evaluate(And((Name("gr"), Name("grr"))), lookup)
    other = {**masks, "asr": _mask(ALL, model="salmonn")}
    with pytest.raises(MaskError, match=r"salmonn.* \(at column 9 of 'gr XOR  asr'\)"):
        evaluate(parse("gr XOR  asr"), other.__getitem__)


def test_trees_by_hand_are_checked() -> None:
    from amask.errors import MaskError

    for bad in (
        lambda: And((Name("a"),)),
        lambda: Or(()),
        lambda: AtLeast(3, (Name("a"), Name("b"))),
        lambda: Name(""),
        lambda: Name("""'"'"""),
        lambda: Name("a\n"),
    ):
        with pytest.raises(MaskError):
            bad()


# --- Long, deep and random -----------------------------------------------------------------------------------------------


def test_2000_terms_evaluate_and_the_lineage_is_flat(masks) -> None:
    from amask.composer.algebra import evaluate

    text = " AND ".join(f"m{number}" for number in range(2000))
    three = [_mask(ALL - {(0, head)}) for head in range(3)]
    tree = parse(text)
    composed = evaluate(tree, lambda name: three[int(name[1:]) % 3])
    assert _evaluate_bits(composed) == ALL - {(0, 0), (0, 1), (0, 2)}
    assert composed.lineage["operation"] == "expression"
    assert composed.lineage["expression"] == text
    assert composed.lineage["parents"] == [three[number % 3].reference() for number in range(2000)]
    assert len(name_of(tree)) <= 100
    mixed = "gr" + " MINUS asr OR ser XOR gr AND ser" * 200
    assert evaluate(parse(mixed), masks.__getitem__).heads_total == len(ALL)


@pytest.mark.parametrize(
    "text",
    ["NOT " * 3000 + "gr", "1 OF (" * 3000 + "gr" + ")" * 3000, "gr OR asr AND (" * 3000 + "gr" + ")" * 3000],
    ids=["not", "of", "brackets"],
)
def test_what_is_too_deep_is_one_error(text: str) -> None:
    from amask.errors import MaskError

    with pytest.raises(MaskError, match=rf"nested {language.MAX_DEPTH} deep; this one is deeper, at column") as caught:
        parse(text)
    assert len(str(caught.value)) < 400


def test_brackets_that_change_nothing_may_be_deep() -> None:
    assert parse("(" * 3000 + "gr" + ")" * 3000) == Name("gr")
    assert parse("gr AND (" * 500 + "asr" + ")" * 500) == And((*[Name("gr")] * 500, Name("asr")))
    assert parse("(" * 500 + "gr" + " OR asr)" * 500) == Or((Name("gr"), *[Name("asr")] * 500))


def test_the_deepest_tree_works_everywhere(masks) -> None:
    import copy
    import pickle

    from amask.composer.algebra import evaluate, evaluate_logits

    tree = parse("NOT " * (language.MAX_DEPTH - 1) + "gr")
    assert tree.depth == language.MAX_DEPTH
    assert parse(to_text(tree)) == tree == copy.deepcopy(tree) == pickle.loads(pickle.dumps(tree))
    assert hash(tree) == hash(copy.deepcopy(tree))
    assert repr(tree).count("Not") == language.MAX_DEPTH - 1
    assert _evaluate_bits(evaluate(tree, masks.__getitem__)) == ALL - _evaluate_bits(masks["gr"])
    assert _evaluate_bits(evaluate_logits(tree, masks.__getitem__)) == ALL - _evaluate_bits(masks["gr"])


def test_10000_random_texts_give_a_mask_or_one_error(masks) -> None:
    from amask.composer.algebra import evaluate
    from amask.errors import MaskError

    chance = random.Random(0)
    pieces = [
        *NAMES,
        *NAMES,
        *OPERATORS,
        *"~~((()),,",
        "NOT",
        "not",
        "1 OF (",
        "2 of (gr,",
        "OF",
        "'or'",
        '"',
        "'",
        "@",
        "ü",
        "\n",
        "9" * 50,
    ]
    valid = broken = 0
    for _ in range(10_000):
        words = [chance.choice(pieces) for _ in range(chance.randint(0, 12))]
        if chance.random() < 0.5:  # names and operators in turn: mostly valid
            words = [chance.choice((NAMES[:8], list(OPERATORS))[at % 2]) for at in range(2 * chance.randint(1, 5) - 1)]
        text = chance.choice((" ", " ", " ", "")).join(words)
        try:
            assert evaluate(parse(text), masks.__getitem__).heads_total == len(ALL)
            valid += 1
        except KeyError:  # the lookup's own: a name that no mask has
            valid += 1
        except MaskError as error:
            assert "\n" not in str(error)
            assert len(str(error)) < 500
            broken += 1
    assert valid > 3000
    assert broken > 3000
