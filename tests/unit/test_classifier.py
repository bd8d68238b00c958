"""The instruction classifier: right on what it knows, refuses what no mask serves, never guesses an unlikely task."""

import subprocess
import sys
from contextlib import suppress

import pytest

TASKS = ["asr", "gr", "s2tt", "ser", "age", "aac", "asv", "osr", "gr-asr", "asr-gr", "gr-asr-json", "asr-gr-json"]


def specs(*names: str):
    """Tasks as the pocket model means them."""
    from amask.data.tasks import collect_tasks, parse_task
    from amask.pocket import SLICE

    known = collect_tasks(SLICE)
    return [parse_task(name, known) for name in names or TASKS]


@pytest.fixture(scope="module")
def classifier():
    from amask.predictor.classifier import TaskClassifier

    return TaskClassifier(specs())


@pytest.mark.parametrize("task", TASKS)
def test_known_wordings(classifier, task):
    from amask.data.wordings import wordings

    assert [classifier.guess(said).task for said in wordings(specs(task)[0])[:12]] == [task] * 12


@pytest.mark.parametrize(
    ("said", "task"),
    [
        ("What's the speaker's gender?", "gr"),
        ("Is it a woman?", "gr"),
        ("what is said?", "asr"),
        ("Please translate to German!", "s2tt"),
        ("gender and transcript as JSON", "gr-asr-json"),
    ],
)
def test_own_words(classifier, said, task):
    guess = classifier.guess(said)
    assert guess.task == task
    assert guess.nearest[0] == task
    assert 0.6 <= guess.probability <= 1


def test_what_no_task_serves_is_refused(classifier):
    from amask.errors import InstructionError
    from amask.predictor.classifier import out_of_scope

    for said in out_of_scope("withheld"):
        with pytest.raises(InstructionError, match="the nearest tasks are"):
            classifier.guess(said)


def test_unseen_wordings_are_rarely_wrong(classifier):
    """Refusing is allowed, another task is not: at most one in twenty of the withheld wordings."""
    from amask.data.tasks import parse_task
    from amask.errors import InstructionError
    from amask.pocket.instructions import wordings

    wrong = said_in_all = 0
    for task in TASKS:
        for said in wordings(parse_task(task), "withheld")[:16]:
            said_in_all += 1
            with suppress(InstructionError):
                wrong += classifier.guess(said).task != task
    assert wrong <= said_in_all / 20


@pytest.mark.parametrize("said", ["", "   ", "?!"])
def test_empty(classifier, said):
    from amask.errors import InstructionError

    with pytest.raises(InstructionError, match="empty"):
        classifier.guess(said)


def test_only_tasks_of_the_bank_are_chosen():
    from amask.errors import InstructionError
    from amask.predictor.classifier import TaskClassifier

    with pytest.raises(InstructionError):
        TaskClassifier(specs("gr", "asr")).guess("translate the speech into german")


@pytest.mark.parametrize("task", TASKS)
def test_known_wordings_need_no_guess(task):
    from amask.data.wordings import wordings
    from amask.predictor.known import known_task

    known = specs()
    for said in wordings(specs(task)[0]):
        assert known_task(said, known).name == task
        assert known_task(f"Please {said.removeprefix('please ').upper()}?", known).name == task
        assert known_task(said, [other for other in known if other.name != task]) is None
        assert known_task(f"{said} whatever", known) is None


def test_known_wordings_wake_no_library():
    """scikit-learn takes seconds to import, which a known wording is not to wait for."""
    code = (
        "import sys; from amask.cli.run import classify; from amask.mask_bank.bank import MaskBank;"
        "print(classify(\"what's the speaker's gender\", MaskBank.default()).name, 'sklearn' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert run.stdout.split() == ["gr", "False"]
