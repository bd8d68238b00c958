"""Expressions at random, and what they mean by Python's own sets."""

import random
from functools import reduce

import torch
from hypothesis import strategies as st

from amask.composer.expression import And, AtLeast, Name, Not, Or, Xor

HEADS = (5, 2, 4)  # a ragged geometry
ALL = frozenset((layer, head) for layer, heads in enumerate(HEADS) for head in range(heads))
NAMES = ("gr", "asr", "ser", "gr-asr-json", "android", "not-gr", "my+mask", "gr@2", "and", "2")
OPERATORS = {"AND": "&", "and": "&", "&": "&", "OR": "|", "or": "|", "|": "|", "XOR": "^", "Xor": "^", "^": "^"}
OPERATORS |= {"MINUS": "& ~", "minus": "& ~", "-": "& ~"}


def random_sets(seed: int) -> dict[str, frozenset]:
    chance = random.Random(seed)
    return {name: frozenset(place for place in ALL if chance.random() < 0.5) for name in NAMES}


def mask_of(on: frozenset, logits: dict | None = None, model: str = "m"):
    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity
    from amask.mask_bank.mask import HeadMask

    identity = Identity(Geometry(HEADS), f"of {model}", model)
    values = torch.full(identity.geometry.shape, -1.0)
    for place in ALL:
        values[place] = logits[place] if logits else 2.0 * (place in on) - 1
    mask = HeadMask.from_logits(values, identity)
    return mask if logits else mask.with_(logits=None)


def bits_of(mask) -> frozenset:
    return frozenset(place for place in ALL if bool(mask.bits[place]))


bank_names = st.from_regex(r"[a-z0-9][a-z0-9._+-]{0,12}(@[1-9][0-9]{0,3})?", fullmatch=True)
any_names = st.text(min_size=1, max_size=8).filter(lambda text: text.isprintable() and not {"'", '"'} <= set(text))


def trees_of(names: st.SearchStrategy[str], leaves: int = 12) -> st.SearchStrategy:
    def deeper(trees: st.SearchStrategy) -> st.SearchStrategy:
        several = st.lists(trees, min_size=2, max_size=4).map(tuple)
        votes = st.lists(trees, min_size=1, max_size=5).flatmap(
            lambda operands: st.builds(AtLeast, st.integers(1, len(operands)), st.just(tuple(operands)))
        )
        return st.one_of(trees.map(Not), several.map(And), several.map(Or), several.map(Xor), votes)

    return st.recursive(names.map(Name), deeper, max_leaves=leaves)


trees = trees_of(st.sampled_from(NAMES))


def truth(tree, sets: dict[str, frozenset]) -> frozenset:
    """What a tree means, by sets of (layer, head)."""
    if isinstance(tree, Name):
        return sets[tree.name]
    parts = [truth(part, sets) for part in tree.parts]
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
