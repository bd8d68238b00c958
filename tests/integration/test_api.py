"""The public names: lazily there, described on their page, and their examples true."""

import doctest
import re
import runpy
import subprocess
import sys

import pytest

NAMES = (
    *("AmaskError", "HeadMask", "LALM", "MaskBank", "Recipe", "Task", "TaskSpec", "compose", "evaluate", "find_sites", "gated"),
    *("Pipeline", "Predictor", "Result", "batch", "load_model", "parse_task", "pipeline", "train"),
)


@pytest.mark.parametrize("name", NAMES)
def test_examples_of_public_names_are_true(name, root, monkeypatch):
    import amask

    monkeypatch.chdir(root)
    finder, runner = doctest.DocTestFinder(recurse=True), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for case in finder.find(getattr(amask, name), name, globs={"amask": amask}):
        report = []
        runner.run(case, out=report.append)
        assert not report, "".join(report)


def test_there_are_examples():
    import amask

    shown = [name for name in NAMES if ">>>" in (getattr(amask, name).__doc__ or "")]
    assert {"compose", "find_sites", "gated", "load_model", "parse_task", "HeadMask"} <= set(shown)


def test_nothing_heavy_is_imported_before_it_is_asked_for():
    code = "import amask, sys; print('torch' in sys.modules, len(amask.__all__), amask.parse_task('gr').name)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split()[0] == "False"
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        import amask

        amask.trian  # noqa: B018


def test_the_page_is_what_the_docstrings_say(root):
    """`python docs/make_api.py` writes it."""
    page = runpy.run_path(str(root / "docs" / "make_api.py"))["page"]()
    assert page.rstrip() == (root / "docs" / "api.md").read_text(encoding="utf-8").rstrip(), "run python docs/make_api.py"


def test_the_readmes_example_runs(root, monkeypatch, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(root)
    exec(compile(example, "README.md", "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "female"
    assert said[1].startswith("female|")
    assert re.fullmatch(r"\d+ of \d+", said[2])
