"""Stages: what has not changed is not made again, and what was stopped goes on."""

import pytest


@pytest.fixture
def making(tmp_path):
    """Runs three small stages whose settings are given; tells which were really run."""
    from amask.pocket.making.stages import Stage, run_stages

    folder = tmp_path / "making"

    def run(first=1, second=2, third=3, version=1, until=""):
        ran = []

        def stage(name, settings, version=1):
            def make(own):
                ran.append(name)
                (own / "result.txt").write_text(f"{name} {settings}")
                (own / "log.pt").write_text(str(len(ran)))  # a checkpoint is no result

            return Stage(name, version, settings, make)

        stages = [stage("first", first), stage("second", second, version), stage("third", third)]
        run_stages(stages, folder, lambda _line: None, until)
        return ran

    run.folder = folder
    return run


def test_a_second_run_does_nothing(making):
    assert making() == ["first", "second", "third"]
    assert making() == []


def test_what_changed_and_what_builds_on_it_runs_again(making):
    making()
    assert making(second=5) == ["second", "third"]
    assert making(second=5, third=6) == ["third"]
    assert making(second=5, third=6, version=2) == ["second"]  # other code, the same result: nothing that builds on it changes
    assert making(first=7, second=5, third=6, version=2) == ["first", "second", "third"]


def test_a_stage_whose_inputs_came_to_the_same_result_leaves_later_ones_alone(making):
    making()
    (making.folder / "first" / "done.stamp").unlink()
    assert making() == ["first"]


def test_until_a_stage(making):
    assert making(until="second") == ["first", "second"]
    assert making() == ["third"]


def test_a_stopped_stage_goes_on_but_never_with_what_other_settings_left(tmp_path):
    from amask.pocket.making.stages import Stage, run_stages

    found = []

    def stopped(own):
        found.append(sorted(path.name for path in own.iterdir()))
        (own / "half.txt").write_text("half")
        raise KeyboardInterrupt

    for settings in (1, 1, 2):
        with pytest.raises(KeyboardInterrupt):
            run_stages([Stage("only", 1, settings, stopped)], tmp_path, lambda _line: None)
    assert found == [["begun.stamp"], ["begun.stamp", "half.txt"], ["begun.stamp"]]
    assert (tmp_path / "only.before" / "half.txt").read_text() == "half"  # hours of work are not thrown away


def test_a_stage_that_keeps_its_files_finds_them_when_its_inputs_change(tmp_path):
    from amask.pocket.making.stages import Stage, run_stages

    found = []

    def make(own):
        found.append((own / "made.txt").exists())
        (own / "made.txt").write_text("made")

    for settings in (1, 2):
        run_stages([Stage("only", 1, settings, make, keeps=True)], tmp_path, lambda _line: None)
    assert found == [False, True]
