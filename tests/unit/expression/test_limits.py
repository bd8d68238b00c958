"""What is wrong in an expression is said with its column; long, deep and random texts."""

import random

import pytest

from amask.composer import expression as language
from amask.composer.expression import And, AtLeast, Name, Or, name_of, parse, to_text

from .truth import ALL, NAMES, OPERATORS, bits_of, mask_of

# Shape checking looks at random elements, which hypothesis takes for the strategies' doing.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")


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
    other = {**masks, "asr": mask_of(ALL, model="salmonn")}
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


def test_2000_terms_evaluate_and_the_lineage_is_flat(masks) -> None:
    from amask.composer.algebra import evaluate

    text = " AND ".join(f"m{number}" for number in range(2000))
    three = [mask_of(ALL - {(0, head)}) for head in range(3)]
    tree = parse(text)
    composed = evaluate(tree, lambda name: three[int(name[1:]) % 3])
    assert bits_of(composed) == ALL - {(0, 0), (0, 1), (0, 2)}
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
    assert bits_of(evaluate(tree, masks.__getitem__)) == ALL - bits_of(masks["gr"])
    assert bits_of(evaluate_logits(tree, masks.__getitem__)) == ALL - bits_of(masks["gr"])


def test_random_texts_give_a_mask_or_one_error(masks) -> None:
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
    for _ in range(2500):
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
    assert valid > 750
    assert broken > 750
