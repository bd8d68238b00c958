"""Plans: read with columns, bound to masks, and asked of the clips that their conditions choose."""

import pytest
import torch

LABELS = {"gr": ("female", "male"), "ser": ("neutral", "happy", "sad", "very angry"), "asr": (), "osr": ()}


@pytest.fixture(scope="module")
def lookup():
    """Masks of some tasks of a made-up model, by name."""
    from amask.data.tasks import Task, TaskSpec
    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity
    from amask.mask_bank.mask import HeadMask

    identity = Identity(Geometry((4,)), "f" * 16, "tiny")
    tasks = {name: Task(name=name, metric="acc" if labels else "wer", labels=labels) for name, labels in LABELS.items()}

    def find(name):
        parts = tuple(tasks[word] for word in name.split("|"))
        return HeadMask(torch.ones(1, 4) > 0, identity, task=TaskSpec(parts=parts, form="pipe" if len(parts) > 1 else "plain"))

    return find


@pytest.fixture
def run(lookup):
    """Runs a plan over four clips with answers by task; gives back what was said, and which task was asked of which clips."""
    from amask.serving.plan import parse_plan, resolve_plan, step_runs

    def go(text, **answers):
        plan = resolve_plan(parse_plan(text), lookup)
        said, asked = [[] for _ in range(4)], []
        for step in plan:
            name = step.mask.task_name
            chosen = [clip for clip, before in enumerate(said) if step_runs(step, before, plan)]
            for clip, before in enumerate(said):
                before.append(answers[name.replace("-", "_")][clip] if clip in chosen else None)
            asked += [(name, chosen)] if chosen else []
        return said, asked

    return go


GENDERS = ["female", "male", "Female.", "hello"]
WORDS = ["a", "b", "c", "d"]


def test_a_condition_chooses_clips(run):
    said, asked = run("gr THEN asr IF female", gr=GENDERS, asr=WORDS)
    assert asked == [("gr", [0, 1, 2, 3]), ("asr", [0, 2])]
    assert said == [["female", "a"], ["male", None], ["Female.", "c"], ["hello", None]]


def test_not_is_any_other_label_and_no_label_is_none(run):
    assert run("gr THEN asr IF NOT male", gr=GENDERS, asr=WORDS)[1] == [("gr", [0, 1, 2, 3]), ("asr", [0, 2])]


def test_without_if_a_step_is_asked_where_the_one_before_said_something(run):
    said, asked = run("osr THEN gr", osr=["one two", "", "three", ""], gr=GENDERS)
    assert asked == [("osr", [0, 1, 2, 3]), ("gr", [0, 2])]
    assert [row[1] for row in said] == ["female", None, "Female.", None]


def test_branches_and_chains(run):
    said, asked = run("gr then asr if female then ser if male", gr=GENDERS, asr=WORDS, ser=["sad"] * 4)
    assert asked[1:] == [("asr", [0, 2]), ("ser", [1])]
    assert said[1] == ["male", None, "sad"]
    _, asked = run("gr THEN asr IF female THEN ser", gr=GENDERS, asr=WORDS, ser=["sad"] * 4)
    assert asked[2] == ("ser", [0, 2])
    _, asked = run('ser THEN asr IF sad OR "very angry"', ser=["sad", "happy", "very angry", "neutral"], asr=WORDS)
    assert asked[1] == ("asr", [0, 2])


def test_a_part_of_a_composite_decides_and_answers_out_of_form_never_do(run):
    _, asked = run("gr|asr THEN ser IF male", gr_asr=["male|x", "female|male", "male", "male|"], ser=["sad"] * 4)
    assert asked[1] == ("ser", [0, 3])


def test_nothing_is_asked_where_no_clip_is_chosen(run):
    said, asked = run("gr THEN asr IF female", gr=["male"] * 4, asr=WORDS)
    assert len(asked) == 1
    assert said == [["male", None]] * 4


def test_the_answer_is_that_of_the_last_step_that_was_asked():
    from amask.serving.plan import final_answer

    assert final_answer(["female", "a"]) == (1, "a")
    assert final_answer(["male", None]) == (0, "")
    assert final_answer(["male", None, "sad"]) == (2, "sad")
    assert final_answer(["male", ""]) == (1, "")


def test_a_plan_explains_itself(lookup):
    from amask.serving.plan import describe_steps, parse_plan, resolve_plan

    plan = resolve_plan(parse_plan("gr THEN asr IF NOT female THEN ser"), lookup)
    assert describe_steps(plan) == [
        "step 1: gr by gr, every clip",
        "step 2: asr by asr, where step 1 does not say female",
        "step 3: ser by ser, where step 2 said something",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("gr", "THEN between them, at column 1"),
        ("gr THEN", "THEN between them"),
        ("THEN gr", "THEN between them"),
        ("gr THEN THEN asr", "THEN between them"),
        ("gr IF male THEN asr", "nothing before it to depend on, at column 7"),
        ("gr AND asr THEN ser", "got 'AND' after 'gr', at column 4"),
        ("gr THEN asr IF", "IF takes an answer, or several with OR between them, at column 13"),
        ("gr THEN asr IF NOT", "IF takes an answer"),
        ("gr THEN asr IF male female", "IF takes an answer"),
        ("gr THEN asr IF male OR", "IF takes an answer"),
        (
            "gr THEN asr IF femal",
            "no task before this IF answers 'femal', at column 16 of.*; did you mean female.*gr answers female",
        ),
        ("asr THEN gr IF female", "no task before this IF answers with labels"),
    ],
)
def test_what_a_plan_cannot_do_is_one_line_with_a_column(lookup, text, problem):
    from amask.errors import MaskError
    from amask.serving.plan import parse_plan, resolve_plan

    with pytest.raises(MaskError, match=problem) as raised:
        resolve_plan(parse_plan(text), lookup)
    assert "\n" not in str(raised.value)


def test_only_a_then_outside_quotes_makes_a_plan():
    from amask.serving.plan import is_plan

    assert is_plan("gr then asr")
    assert not is_plan("gr-asr-json")
    assert not is_plan("strengthen 'then'")
