"""Where a library of an extra is missing, the message is the pip command."""

import sys

import pytest


@pytest.mark.parametrize(
    ("metric", "library"), [("bleu", "sacrebleu"), ("chrf", "sacrebleu"), ("rouge_l", "rouge_score"), ("meteor", "nltk")]
)
def test_metrics_without_their_library(monkeypatch, metric, library):
    from amask.data.metrics import score
    from amask.data.tasks import Task, TaskSpec
    from amask.errors import AmaskError

    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    spec = TaskSpec(parts=(Task(name="free", metric=metric),))
    with pytest.raises(AmaskError, match=rf"needs {library}, which is not installed; pip install 'amask\[metrics\]'$"):
        score(spec, ["a cat"], ["a cat"])


def test_a_fault_within_a_library_is_not_called_missing(monkeypatch, tmp_path):
    """A library that is there, and itself lacks another, is shown as it is."""
    from amask.data import extras

    (tmp_path / "halfthere.py").write_text("import not_there_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(extras.EXTRAS, "halfthere", "plots")
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all") as caught:
        extras.import_extra("halfthere", "a picture")
    assert type(caught.value) is ModuleNotFoundError


def test_other_metrics_need_none_of_them(monkeypatch):
    """What training and running the built-in tasks needs comes with amask itself."""
    from amask.data.extras import EXTRAS
    from amask.data.metrics import score
    from amask.data.tasks import builtin_tasks, parse_task

    for library in EXTRAS:
        monkeypatch.setitem(sys.modules, library, None)
    for name, task in builtin_tasks().items():
        if task.metric in ("wer", "cer", "acc", "exact"):
            answer = task.labels[0] if task.labels else "a cat"
            assert score(parse_task(name), [answer], [answer])
