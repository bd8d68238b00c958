"""Training examples: right readings, nothing withheld, the same for the same seed, and a task of the user's own among them."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def tasks():
    from amask.data.tasks import builtin_tasks

    return tuple(builtin_tasks().values())


def drawn(source, count=1500, seed=0):
    rng = np.random.default_rng(seed)
    return [source.draw(rng) for _ in range(count)]


def test_the_same_for_the_same_seed(tasks):
    from amask.predictor.examples import Examples

    assert drawn(Examples(tasks), 50) == drawn(Examples(tasks), 50)
    assert drawn(Examples(tasks), 50) != drawn(Examples(tasks), 50, seed=1)


def test_nothing_withheld_and_no_unseen_order_is_drawn(tasks):
    from amask.predictor.examples import Examples, unseen
    from amask.predictor.material import bare, withheld

    source = Examples(tasks, "train", frozenset({("asr", "gr")}))
    rng = np.random.default_rng(0)
    found = drawn(source)
    assert not {bare(example.text) for example in found} & withheld()
    orders = {example.reading.parts for example in found if len(example.reading.parts) > 1}
    assert not [parts for parts in orders if unseen(parts) and parts != ("asr", "gr")]
    assert any(unseen(parts) for parts in Examples(tasks, "withheld").orders[2])
    assert source.of_kind("pipe2", rng).reading.parts in source.orders[2]


def test_train_dev_and_withheld_share_no_request(tasks):
    from amask.predictor.examples import Examples

    def texts(split):
        source = Examples(tasks, split)
        return {text for each in (*source.singles.values(), *source.foreign.values()) for text in each}

    train, dev, withheld = map(texts, ("train", "dev", "withheld"))
    assert not train & dev
    assert not (train | dev) & withheld
    assert len(dev) > len(train) / 20


@pytest.fixture(scope="module")
def speaks_of(tasks):
    """Whether a text is one that speaks of a task: a phrase, a deed, a request as written, or a filled pattern."""
    import re

    from amask.predictor.examples import Examples
    from amask.predictor.material import patterns

    source = Examples(tasks)
    slots, found = patterns()

    def regex(pattern):
        pieces = re.split(r"\{(\w+)\}", pattern.rstrip("?.! "))
        any_of = {name: f"(?:{'|'.join(map(re.escape, words))})" for name, words in slots.items()}
        return "".join(any_of[each] if at % 2 else re.escape(each) for at, each in enumerate(pieces))

    patterned = {task.name: re.compile("|".join(map(regex, found[task.name]))) for task in tasks}

    def speaks(text, part):
        said = (source.phrases[part], source.german[part], source.deeds[0][part], source.deeds[1][part])
        whole = {each.rstrip("?.! ") for each in source.singles[part]}
        return any(text in some for some in said) or text in whole or bool(patterned[part].fullmatch(text))

    return speaks


@pytest.mark.parametrize("kind", ["pipe2", "json2", "pipe3", "json3", "pipe2_with_exclusion"])
def test_a_template_puts_the_parts_where_its_reading_says(tasks, speaks_of, kind):
    from amask.predictor.examples import Examples

    source = Examples(tasks)
    rng = np.random.default_rng(2)
    for _ in range(80):
        example = source.of_kind("pair_with_exclusion" if "exclusion" in kind else kind, rng)
        assert len(example.reading.parts) == int(kind[4])
        assert "exclusion" in kind or example.reading.form == ("json" if kind.startswith("json") else "pipe")
        for part, (start, end) in zip(example.reading.parts, example.spans, strict=True):
            assert speaks_of(example.text[start:end], part)


def test_deeds_and_whole_sentences_are_listed_too(tasks):
    """ "Transcribe it and tell me the gender" is how people ask, as well as "the transcript and the gender"."""
    from amask.predictor.examples import Examples

    source = Examples(tasks)
    rng = np.random.default_rng(6)
    spoken = [
        example.text[start:end] for example in (source.of_kind("pipe2", rng) for _ in range(400)) for start, end in example.spans
    ]
    deeds = {text for some in source.deeds for texts in some.values() for text in texts}
    phrases = {text for some in (source.phrases, source.german) for texts in some.values() for text in texts}
    shares = [sum(text in some for text in spoken) / len(spoken) for some in (phrases, deeds)]
    assert 0.4 < shares[0] < 0.7
    assert 0.15 < shares[1] < 0.4
    assert sum(shares) < 0.95


def test_foreign_kinds_ask_for_nothing_and_single_ones_for_one(tasks):
    from amask.predictor.examples import FOREIGN, Examples

    source = Examples(tasks)
    rng = np.random.default_rng(3)
    for kind in FOREIGN:
        assert all(not source.of_kind(kind, rng).reading.parts for _ in range(20))
    for kind in ("single", "phrase", "pattern", "single_with_exclusion"):
        assert all(len(source.of_kind(kind, rng).reading.parts) == 1 for _ in range(20))


def test_patterns_fill_all_their_places(tasks):
    from amask.predictor.examples import Examples
    from amask.predictor.material import patterns

    slots, found = patterns()
    assert set(found) == {task.name for task in tasks} | {"none"}
    rng = np.random.default_rng(4)
    texts = [Examples(tasks).of_kind(kind, rng).text for kind in ("pattern", "foreign_pattern") for _ in range(300)]
    assert not [text for text in texts if "{" in text]
    assert all(len(words) == len(set(words)) for words in slots.values())


def test_a_users_task_joins_with_five_wordings(tasks):
    from amask.data.tasks import Task
    from amask.predictor.examples import Examples

    own = Task(
        name="intent", metric="acc", labels=("on", "off"), title="what to switch", wordings=tuple(f"intent {n}" for n in range(5))
    )
    source = Examples((*tasks, own))
    assert set(source.singles["intent"]) == set(own.wordings)
    assert source.phrases["intent"] == ("what to switch",)
    assert any("intent" in example.reading.parts for example in drawn(source, 300))


def test_typos_change_one_word(tasks):
    from amask.predictor.noise import typo

    rng = np.random.default_rng(5)
    for _ in range(100):
        before, after = ["what", "is", "the", "gender"], typo("what is the gender", rng).split()
        assert sum(a != b for a, b in zip(before, after, strict=True)) <= 1
    assert typo("m/f?", rng) == "m/f?"


EXCLUDING = ("single_with_exclusion", "json2_with_exclusion", "pipe2_with_exclusion")
PUT_TOGETHER = [(kind, saying) for kind in ("pipe2", "json3") for saying in ("phrases", "deeds", "clauses")]
PUT_TOGETHER += [(kind, saying) for kind in EXCLUDING for saying in ("phrases", "deeds")]


@pytest.mark.parametrize(("kind", "saying"), PUT_TOGETHER)
def test_assembled_templates_have_each_place_once(kind, saying):
    import re

    from amask.predictor.assembling import assemble

    rng = np.random.default_rng(0)
    count = {"single": 2}.get(kind.partition("_")[0]) or int(kind[4]) + ("exclusion" in kind)
    for at in range(600):
        template = assemble(kind, rng, german=saying != "clauses" and at % 2 == 1, saying=saying)
        assert sorted(re.findall(r"{(\d)}", template)) == [str(place) for place in range(count)]
        assert ("json" in template.lower()) == kind.startswith("json")
        assert "  " not in template
