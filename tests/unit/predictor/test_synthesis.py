"""Training examples: right intents, nothing held out, the same for the same seed, and a task of the user's own among them."""

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
    from amask.predictor.synthesis import RequestSource

    assert drawn(RequestSource(tasks), 50) == drawn(RequestSource(tasks), 50)
    assert drawn(RequestSource(tasks), 50) != drawn(RequestSource(tasks), 50, seed=1)


def test_nothing_held_out_and_no_unseen_order_is_drawn(tasks):
    from amask.predictor.resources import held_out_requests, normalise
    from amask.predictor.synthesis import RequestSource, is_held_out

    source = RequestSource(tasks, "train", frozenset({("asr", "gr")}))
    rng = np.random.default_rng(0)
    found = drawn(source)
    assert not {normalise(example.text) for example in found} & held_out_requests()
    orders = {example.intent.parts for example in found if len(example.intent.parts) > 1}
    assert not [parts for parts in orders if is_held_out(parts) and parts != ("asr", "gr")]
    assert any(is_held_out(parts) for parts in RequestSource(tasks, "test").orders[2])
    assert source.draw_kind("pipe2", rng).intent.parts in source.orders[2]


def test_train_dev_and_held_out_share_no_request(tasks):
    from amask.predictor.synthesis import RequestSource

    def texts(split):
        source = RequestSource(tasks, split)
        return {text for each in (*source.singles.values(), *source.unsupported.values()) for text in each}

    train, dev, held_out_requests = map(texts, ("train", "dev", "test"))
    assert not train & dev
    assert not (train | dev) & held_out_requests
    assert len(dev) > len(train) / 20


@pytest.fixture(scope="module")
def speaks_of(tasks):
    """Whether a text is one that speaks of a task: a phrase, a deed, a request as written, or a filled pattern."""
    import re

    from amask.predictor.resources import load_patterns
    from amask.predictor.synthesis import RequestSource

    source = RequestSource(tasks)
    slots, found = load_patterns()

    def regex(pattern):
        pieces = re.split(r"\{(\w+)\}", pattern.rstrip("?.! "))
        any_of = {name: f"(?:{'|'.join(map(re.escape, words))})" for name, words in slots.items()}
        return "".join(any_of[each] if at % 2 else re.escape(each) for at, each in enumerate(pieces))

    patterned = {task.name: re.compile("|".join(map(regex, found[task.name]))) for task in tasks}

    def speaks(text, part):
        said = (source.phrases[part], source.german[part], source.imperatives[0][part], source.imperatives[1][part])
        whole = {each.rstrip("?.! ") for each in source.singles[part]}
        return any(text in some for some in said) or text in whole or bool(patterned[part].fullmatch(text))

    return speaks


@pytest.mark.parametrize("kind", ["pipe2", "json2", "pipe3", "json3", "pipe2_with_exclusion"])
def test_a_template_puts_the_parts_where_its_reading_says(tasks, speaks_of, kind):
    from amask.predictor.synthesis import RequestSource

    source = RequestSource(tasks)
    rng = np.random.default_rng(2)
    for _ in range(80):
        example = source.draw_kind("pair_with_exclusion" if "exclusion" in kind else kind, rng)
        assert len(example.intent.parts) == int(kind[4])
        assert "exclusion" in kind or example.intent.form == ("json" if kind.startswith("json") else "pipe")
        for part, (start, end) in zip(example.intent.parts, example.part_spans, strict=True):
            assert speaks_of(example.text[start:end], part)


def test_imperatives_and_whole_sentences_are_listed_too(tasks):
    """ "Transcribe it and tell me the gender" is how people ask, as well as "the transcript and the gender"."""
    from amask.predictor.synthesis import RequestSource

    source = RequestSource(tasks)
    rng = np.random.default_rng(6)
    span_tasks = [
        example.text[start:end]
        for example in (source.draw_kind("pipe2", rng) for _ in range(400))
        for start, end in example.part_spans
    ]
    imperatives = {text for some in source.imperatives for texts in some.values() for text in texts}
    phrases = {text for some in (source.phrases, source.german) for texts in some.values() for text in texts}
    shares = [sum(text in some for text in span_tasks) / len(span_tasks) for some in (phrases, imperatives)]
    assert 0.4 < shares[0] < 0.7
    assert 0.15 < shares[1] < 0.4
    assert sum(shares) < 0.95


def test_foreign_kinds_ask_for_nothing_and_single_ones_for_one(tasks):
    from amask.predictor.synthesis import UNSUPPORTED_SHARES, RequestSource

    source = RequestSource(tasks)
    rng = np.random.default_rng(3)
    for kind in UNSUPPORTED_SHARES:
        assert all(not source.draw_kind(kind, rng).intent.parts for _ in range(20))
    for kind in ("single", "phrase", "pattern", "single_with_exclusion"):
        assert all(len(source.draw_kind(kind, rng).intent.parts) == 1 for _ in range(20))


def test_patterns_fill_all_their_places(tasks):
    from amask.predictor.resources import load_patterns
    from amask.predictor.synthesis import RequestSource

    slots, found = load_patterns()
    assert set(found) == {task.name for task in tasks} | {"none", "scene"}
    rng = np.random.default_rng(4)
    texts = [
        RequestSource(tasks).draw_kind(kind, rng).text for kind in ("pattern", "unsupported_pattern", "scene") for _ in range(300)
    ]
    assert not [text for text in texts if "{" in text]
    assert all(len(words) == len(set(words)) for words in slots.values())


def test_a_users_task_joins_with_five_wordings(tasks):
    from amask.data.tasks import Task
    from amask.predictor.synthesis import RequestSource

    own = Task(
        name="intent", metric="acc", labels=("on", "off"), title="what to switch", wordings=tuple(f"intent {n}" for n in range(5))
    )
    source, dev = RequestSource((*tasks, own)), RequestSource((*tasks, own), "dev")
    assert set(dev.singles["intent"]) == {"intent 1"}
    assert set(source.singles["intent"]) == set(own.wordings) - {"intent 1"}
    assert source.phrases["intent"] == ("what to switch",)
    assert any("intent" in example.intent.parts for example in drawn(source, 300))


def test_typos_change_one_word(tasks):
    from amask.predictor.augmentation import add_typo

    rng = np.random.default_rng(5)
    for _ in range(100):
        before, after = ["what", "is", "the", "gender"], add_typo("what is the gender", rng).split()
        assert sum(a != b for a, b in zip(before, after, strict=True)) <= 1
    assert add_typo("m/f?", rng) == "m/f?"


EXCLUDING = ("single_with_exclusion", "json2_with_exclusion", "pipe2_with_exclusion")
PUT_TOGETHER = [(kind, style) for kind in ("pipe2", "json3") for style in ("phrases", "imperatives", "clauses")]
PUT_TOGETHER += [(kind, style) for kind in EXCLUDING for style in ("phrases", "imperatives")]


@pytest.mark.parametrize(("kind", "style"), PUT_TOGETHER)
def test_assembled_templates_have_each_place_once(kind, style):
    import re

    from amask.predictor.templates import build_template

    rng = np.random.default_rng(0)
    count = {"single": 2}.get(kind.partition("_")[0]) or int(kind[4]) + ("exclusion" in kind)
    for at in range(200):
        template = build_template(kind, rng, german=style != "clauses" and at % 2 == 1, style=style)
        assert sorted(re.findall(r"{(\d)}", template)) == [str(place) for place in range(count)]
        assert ("json" in template.lower()) == kind.startswith("json")
        assert "  " not in template
