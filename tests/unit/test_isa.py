"""ISA-Bench's scores against the figures that its own scripts give, and its layout read back."""

import json

import pytest

SHARED = "../shared/isa_bench/examples"


def deviations(wanted, got, path=""):
    """The places where figures differ by more than half a hundredth."""
    if not isinstance(wanted, dict):
        return [] if abs(wanted - got) <= 0.0051 else [f"{path}: {wanted} {got}"]
    return [each for name in wanted if name in got for each in deviations(wanted[name], got[name], f"{path}.{name}")]


def test_the_figures_of_the_benchmarks_own_scripts(root):
    from amask.evaluation.isa_scores import read_folder, score_answers

    folder = root / SHARED
    if not folder.is_dir():
        pytest.skip("shared data are absent")
    found = score_answers(read_folder(folder))
    wanted = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["example"]
    for table in (*wanted["d"].values(), *wanted["f"].values()):
        for row in table.values():
            row.pop("METEOR", None)  # theirs is Java's
    wanted["n"] = wanted["n"]["only"]["single-stage"]
    assert deviations(wanted, found) == []
    for axis in ("d", "f"):
        assert {task: set(rows) for task, rows in found[axis].items()} == {task: set(rows) for task, rows in wanted[axis].items()}


@pytest.mark.parametrize(
    ("axis", "task", "variation", "answer", "form", "content"),
    [
        ("d", "asr", "default", "the transcript is: put it down", {}, "put it down"),
        ("d", "asr", "default", "put it down", {}, None),
        ("d", "gr", "default", "Female", {}, "Female"),
        ("d", "gr", "default", "It is female", {}, None),
        ("f", "asr", "prefix", "<T> put it down", {"prefix": "<T>"}, "put it down"),
        ("f", "asr", "suffix", "put it down [x]", {"suffix": "[X]"}, None),
        ("f", "asr", "wrap", "(put it down)", {"wrap": ("(", ")")}, "put it down"),
        ("f", "asr", "wrap", "*", {"wrap": ("*", "*")}, None),
        ("f", "ser", "upper_case", "HAPPY", {"case": "upper"}, "HAPPY"),
        ("f", "ser", "upper_case", "Happy", {"case": "upper"}, None),
        ("f", "asr", "lower_case", "put it", {"case": "lower"}, "put it"),
        ("f", "asr", "json", '{"a": "put it"}', {"keys": ("a",)}, "put it"),
        ("f", "asr", "json", '{"a": 1}', {"keys": ("a",)}, None),
        ("f", "asr", "constrain", "Here is the text: put it", {}, None),
    ],
)
def test_what_is_in_form(axis, task, variation, answer, form, content):
    from amask.data.answer_format import AnswerFormat
    from amask.evaluation.isa_scores import IsaAnswer, content_in_form

    assert content_in_form(IsaAnswer(axis, task, variation, answer, "", AnswerFormat(**form))) == content


def test_several_tasks_in_one_answer():
    from amask.data.answer_format import AnswerFormat
    from amask.evaluation.isa_scores import IsaAnswer, parts_in_form, score_answers

    right = {"asr": "put it down", "gr": "male"}
    slash = IsaAnswer("n", "gr|asr", "separation", "Male / put it down", right, AnswerFormat(separator="/"))
    assert parts_in_form(slash) == {"gr": "Male", "asr": "put it down"}
    assert parts_in_form(IsaAnswer("n", "gr|asr", "separation", "a man/put it down", right, AnswerFormat(separator="/"))) is None
    table = score_answers([slash])["n"]
    assert table["2-TASK"] == {"ASR": {"ifr": 100.0, "wer": 0.0, "n": 1}, "GR": {"ifr": 100.0, "acc": 100.0, "n": 1}}


def test_area_of_a_radar():
    from amask.evaluation.isa_scores import area

    assert area(dict.fromkeys("abcde", 100.0)) == 100.0
    assert area({"a": 100.0, "b": 0.0, "c": 100.0, "d": 0.0}) == 0.0
    assert area({"a": 50.0, "b": 50.0, "c": 50.0}) == 25.0


def test_instructions_in_the_benchmarks_layout_and_answers_read_back(tmp_path):
    from amask.evaluation.isa import load_answers, read_instructions, save_answers, save_radar

    variations = {
        "default": "say it",
        "case": {"upper_case": ["SAY IT"]},
        "prefix": [{"prefix": "<P>", "inst": "begin with <P>"}],
    }
    single = [{"task": "asr", "base_description": "say it", "base_constrain": "", "variations": variations}]
    (tmp_path / "asr_f.json").write_text(json.dumps(single), encoding="utf-8")
    several = [{"task": "GR|ASR", "separator": "/", "inst": "gender, words"}, {"task": "GR|ASR", "key": "a|b", "inst": "as json"}]
    (tmp_path / "own_n.json").write_text(json.dumps(several), encoding="utf-8")
    found = read_instructions(tmp_path)
    assert [each.instruction for each in found] == ["say it", "SAY IT", "begin with <P>", "gender, words", "as json"]
    assert found[2].asked.form.prefix == "<P>"
    assert (found[3].asked.form.separator, found[4].asked.form.keys) == ("/", ("a", "b"))
    rows = [each.asked for each in found]
    save_answers(rows, tmp_path / "answers.jsonl")
    assert load_answers(tmp_path / "answers.jsonl") == rows
    save_radar({"masked": {"D default": 100.0, "F prefix": 50.0, "N json": 75.0}}, tmp_path / "radar.png")
    assert (tmp_path / "radar.png").read_bytes()[:4] == b"\x89PNG"


def test_instructions_of_our_own_are_in_the_benchmarks_layout_and_withheld(tmp_path):
    from amask.evaluation.isa import read_instructions
    from amask.evaluation.isa_instructions import TASKS, write_instructions
    from amask.predictor.synthesis import is_held_out
    from amask.predictor.wordings import read_wordings

    write_instructions(tmp_path)
    found = read_instructions(tmp_path)
    assert {each.asked.axis for each in found} == {"d", "f", "n"}
    single = {each.asked.task for each in found if each.asked.axis != "n"}
    assert single == set(TASKS)
    for each in found:
        if each.asked.axis == "n":
            assert is_held_out(each.asked.task.split("|"))
        elif each.asked.variation == "constrain":
            assert any(text.rstrip(" .?!") in each.instruction for text in read_wordings().tasks[each.asked.task].held_out)
        form = each.asked.form
        literals = (form.prefix, form.suffix, *(form.wrap or ()), *form.keys, form.separator or "")
        assert all(text in each.instruction for text in literals)
    write_instructions(tmp_path / "again")
    assert read_instructions(tmp_path / "again") == found
