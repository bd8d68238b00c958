"""Expressions as text, and as names for the bank."""

import itertools
import re
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from amask.composer.expression import And, AtLeast, Name, Not, Or, Xor, name_of, names_in, parse, to_text

from .truth import (
    any_names,
    bank_names,
    trees_of,
)

# Shape checking looks at random elements, which hypothesis takes for the strategies' doing.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")


@settings(deadline=None)
@given(trees_of(bank_names | any_names | st.sampled_from(["and", "NOT", "Of", "2", "-", "a b", "it's", '"'])))
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


@settings(deadline=None)
@given(trees_of(bank_names | any_names | st.sampled_from(["and", "a" * 100, "x.safetensors"]), leaves=30))
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
