"""The instruction classifier: right on what it knows, refuses what no mask serves, never guesses an unlikely task."""

import subprocess
import sys
from contextlib import suppress

import pytest

TASKS = ["asr", "gr", "s2tt", "ser", "age", "aac", "asv", "osr", "gr-asr", "asr-gr", "gr-asr-json", "asr-gr-json"]


@pytest.fixture(scope="module")
def classifier():
    from amask.predictor.classifier import TaskClassifier

    return TaskClassifier(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_known_wordings(classifier, task):
    from amask.data.instructions import wordings
    from amask.data.tasks import parse_task

    assert [classifier.guess(said).task for said in wordings(parse_task(task))[:12]] == [task] * 12


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
    from amask.data.instructions import out_of_scope
    from amask.errors import InstructionError

    for said in out_of_scope("withheld"):
        with pytest.raises(InstructionError, match="the nearest tasks are"):
            classifier.guess(said)


def test_unseen_wordings_are_rarely_wrong(classifier):
    """Refusing is allowed, another task is not: at most one in twenty of the withheld wordings."""
    from amask.data.instructions import wordings
    from amask.data.tasks import parse_task
    from amask.errors import InstructionError

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
        TaskClassifier(["gr", "asr"]).guess("translate the speech into german")


@pytest.mark.parametrize("task", TASKS)
def test_known_wordings_need_no_guess(task):
    from amask.data.instructions import wordings
    from amask.data.tasks import parse_task
    from amask.predictor.known import known_task

    for said in wordings(parse_task(task)):
        assert known_task(said, TASKS) == task
        assert known_task(f"Please {said.removeprefix('please ').upper()}?", TASKS) == task
        assert known_task(said, [other for other in TASKS if other != task]) is None
        assert known_task(f"{said} whatever", TASKS) is None


def test_known_wordings_wake_no_library():
    """scikit-learn takes seconds to import, which a known wording is not to wait for."""
    code = (
        "import sys; from amask.cli.run import _classify; from amask.mask_bank.bank import default_bank;"
        "print(_classify(\"what's the speaker's gender\", default_bank()), 'sklearn' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert run.stdout.split() == ["gr", "False"]
