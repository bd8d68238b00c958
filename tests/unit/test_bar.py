"""The progress bar keeps its count and its time, however much is told beside it."""

import io
import re

import pytest


@pytest.fixture
def terminal(monkeypatch):
    """Stands in for a terminal of some width; what is drawn can be read."""
    from rich.console import Console

    from amask.cli import common

    def make(width):
        monkeypatch.setenv("TERM", "xterm")
        drawn = io.StringIO()
        console = Console(file=drawn, force_terminal=True, width=width, color_system=None, soft_wrap=True, legacy_windows=False)
        monkeypatch.setattr(common, "err", console)
        return drawn

    return make


@pytest.mark.parametrize("width", [72, 80, 100])
def test_count_and_time_left_stay_with_long_notes(terminal, width):
    from amask.cli.common import progress

    drawn = terminal(width)
    with progress("training 12 masks", 400) as tell:
        for step in (1, 40, 41):
            tell(step, "gr-asr-json 2: loss 0.123, 301 on, dev 98.1 " * 5)
    lines = [line.rstrip() for line in re.split(r"[\r\n]|\x1b\[[0-9;?]*[A-Za-z]", drawn.getvalue()) if "training" in line]
    assert lines
    assert all(len(line) <= width for line in lines)
    assert re.search(r" 41/400 .*\d:\d\d:\d\d|-:--:--", lines[-1])
    assert "…" in lines[-1]


def test_a_total_may_turn_out_other_than_thought(terminal):
    from amask.cli.common import progress

    drawn = terminal(100)
    with progress("checking clips", 1000) as tell:
        tell(5, total=50)
    assert "5/50" in drawn.getvalue()


def test_a_log_file_gets_every_tenth_in_full(monkeypatch):
    from rich.console import Console

    from amask.cli import common

    written = io.StringIO()
    monkeypatch.setattr(common, "err", Console(file=written, width=40, soft_wrap=True))
    with common.progress("training 2 masks", 20) as tell:
        for step in range(1, 21):
            tell(step, "gr", line="gr 1: loss 0.100, 512 on; gr 2: loss 0.200, 512 on")
    lines = written.getvalue().splitlines()
    assert len(lines) == 10
    told = "gr 1: loss 0.100, 512 on; gr 2: loss 0.200, 512 on"
    assert re.fullmatch(rf"training 2 masks 2/20, [\d.]+/s, \d:\d\d:\d\d left  {told}", lines[0])


def test_each_mask_of_a_training_is_told_apart():
    from amask.cli.training import describe_mask, name_masks
    from amask.data.tasks import parse_task
    from amask.mask_bank.training import TrainingJob, TrainingProgress

    jobs = [TrainingJob(parse_task("gr"), 1), TrainingJob(parse_task("gr"), 2)]
    now = TrainingProgress(1, 2, 4.0, (0.5, 0.25), (512, 301), (None, -1.91), 3.0)
    assert describe_mask(jobs[0], now, 0, seeds=True) == "gr 1: loss 0.500, 512 on"
    assert describe_mask(jobs[1], now, 1, seeds=True) == "gr 2: loss 0.250, 301 on, dev 1.9"
    specs = [parse_task("gr"), parse_task("gr-asr")]
    assert name_masks(specs, None) == ["gr", "gr-asr"]
    assert name_masks(specs, "t") == ["t-gr", "t-gr-asr"]
    assert name_masks(specs[:1], "t") == ["t"]


def test_a_file_that_cannot_be_written_is_found_out_before(tmp_path):
    from amask.cli.training import check_out
    from amask.errors import AmaskError

    check_out(tmp_path / "mask.safetensors", 1)
    (tmp_path / "folder.safetensors").mkdir()
    for path, masks in (("absent/m.safetensors", 1), ("m.pth", 1), ("m.safetensors", 2), ("folder.safetensors", 1)):
        with pytest.raises(AmaskError, match="--out"):
            check_out(tmp_path / path, masks)
    assert not (tmp_path / "mask.safetensors").exists()


def test_what_was_there_before_is_no_progress(monkeypatch):
    """Of 100 runs 90 were there: the time left is by those that are made now."""
    from rich.console import Console

    from amask.cli import common

    written, clock = io.StringIO(), iter([5.0, 15.0])
    monkeypatch.setattr(common, "err", Console(file=written, width=90, soft_wrap=True))
    monkeypatch.setattr(common.time, "monotonic", lambda: next(clock))
    with common.progress("measuring", 100) as tell:
        tell(80)
        tell(90)
    assert written.getvalue().splitlines() == ["measuring 80/100", "measuring 90/100, 1.0/s, 0:00:10 left"]
