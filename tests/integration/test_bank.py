"""`amask bank …`, `compose` and `eval` with the pocket model and the slice that ships."""

import json
import os
import re
import signal
import time

import pytest

QUICK = ["--steps", "2", "--batch", "2"]
KEPT = {"train": 8, "dev": 3, "test": 3}  # clips of each split: what is asserted is what is stored, not how good it is


@pytest.fixture
def data(tmp_path):
    """A manifest of some clips of the slice."""
    from amask.data.manifest import write_manifest
    from amask.data.reading import read_manifest
    from amask.pocket import SLICE

    manifest = read_manifest(SLICE)
    clips = [c.model_copy(update={"path": str(manifest.path(c))}) for c in manifest if c.kind == "speech" and "ser" in c.labels]
    clips.sort(key=lambda clip: clip.duration or 0)
    few = [clip for split, count in KEPT.items() for clip in [c for c in clips if c.split == split][:count]]
    write_manifest(few, tmp_path / "few.jsonl")
    return tmp_path / "few.jsonl"


def test_train_show_list_compare_remove(amask, data, pocket_geometry, tmp_path):
    done = amask("bank", "train", "ser", "gr", "--seeds", "1,2", "--data", data, *QUICK, "--json")
    assert done.exit_code == 0, done.stderr
    trained = [json.loads(line) for line in done.stdout.splitlines()]
    # The bundled bank counts too, so that versions never mean two masks.
    first = 1 + max(
        (
            m["version"]
            for m in json.loads(amask("bank", "list", "--json", "--bank", tmp_path / "none").stdout)
            if m["name"] == "gr"
        ),
        default=0,
    )
    assert [(m["task"], m["lineage"]["seed"]) for m in trained] == [("ser", 1), ("ser", 2), ("gr", 1), ("gr", 2)]
    assert [m["version"] for m in trained if m["name"] == "gr"] == [first, first + 1]
    shown = json.loads(amask("bank", "show", f"gr@{first}", "--json").stdout)
    assert {key: shown[key] for key in trained[2]} == trained[2]
    assert set(shown) >= {"name", "version", "task", "heads_on", "heads_total", "geometry", "fingerprint", "lineage", "scores"}
    assert shown["heads_total"] == pocket_geometry.total
    assert shown["geometry"] == list(pocket_geometry.heads)
    (pair,) = json.loads(amask("bank", "compare", f"gr@{first}", f"gr@{first + 1}", "--json").stdout)["pairs"]
    assert 0 <= pair["jaccard"] <= 1
    assert pair["both"] + pair["only_first"] == shown["heads_on"]
    assert amask("bank", "remove", f"gr@{first}").exit_code == 0
    assert amask("bank", "show", f"gr@{first}").exit_code == 1
    assert amask("bank", "verify").exit_code == 0


def test_show_draws(amask, tmp_path):
    done = amask("bank", "show", "gr", "--png", tmp_path / "gr.png")
    assert "heads on" in done.stdout
    assert (tmp_path / "gr.png").read_bytes().startswith(b"\x89PNG")
    amask("bank", "show", "gr", "--png", tmp_path / "gr.svg")
    assert "<svg" in (tmp_path / "gr.svg").read_text()


def test_a_poor_new_mask_does_not_become_the_default(amask, data, clip):
    before = amask("run", clip, "--task", "gr").stdout
    done = amask("bank", "train", "gr", "--data", data, *QUICK)
    assert done.exit_code == 0, done.stderr
    assert "gr@1 stays the default: " in done.stderr
    assert "to use it: amask bank use gr@2" in done.stderr
    assert amask("run", clip, "--task", "gr").stdout == before
    assert amask("bank", "use", "gr@2").stdout == "gr is now gr@2 for pocket\n"
    assert json.loads(amask("run", clip, "--task", "gr", "--json").stdout)["mask"] == "gr@2"
    masks = {each["version"]: each for each in json.loads(amask("bank", "list", "--name", "gr", "--json").stdout)}
    assert {version: each["default"] for version, each in masks.items()} == {1: False, 2: True}
    assert "gr@1 is now the default" in amask("bank", "remove", "gr@2").stderr


def test_a_mask_is_found_by_its_task_whatever_it_is_called(amask, data, clip):
    assert amask("bank", "train", "gr-ser", "--name", "both", "--data", data, *QUICK).exit_code == 0
    done = amask("run", clip, "--task", "gr|ser", "--mode", "one-pass", "--json")
    assert done.exit_code == 0, done.stderr
    assert (json.loads(done.stdout)["mask"], json.loads(done.stdout)["task"]) == ("both@1", "gr-ser")


def test_training_starts_from_the_mask_of_its_model(amask, data):
    from amask.lalm.identity import Identity
    from amask.mask_bank.bank import MaskBank

    bank = MaskBank.default()
    gr = bank.get("gr")
    other = gr.with_(identity=Identity(gr.geometry, "other", "other"))
    assert bank.add(other, "gr").stored.spec == "gr@2"
    bank.use("gr@2")
    done = amask("bank", "train", "gr", "--start", "gr", "--name", "mine", "--data", data, *QUICK, "--json")
    assert done.exit_code == 0, done.stderr


def test_a_damaged_mask_is_named_and_the_others_are_used(amask, clip):
    from amask.mask_bank.bank import MaskBank

    bank = MaskBank.default()
    path = bank.add(~bank.get("gr"), "gr").stored.path
    path.write_bytes(path.read_bytes()[:99])
    done = amask("run", clip, "--task", "gr")
    assert (done.exit_code, done.stdout) == (0, "female\n")
    done = amask("bank", "show", "gr")
    assert done.exit_code == 0
    assert done.stderr.count(str(path)) == 1
    assert amask("bank", "show", "gr@2").exit_code == 1
    assert amask("bank", "verify").exit_code == 1


def test_several_masks_say_which_is_which(amask, data):
    done = amask("bank", "train", "gr", "asr", "gr", "--seeds", "1,2", "--name", "t", "--data", data, *QUICK)
    assert done.exit_code == 0, done.stderr
    lines = [line.partition(":")[0] for line in done.stdout.splitlines()]
    assert lines == ["t-gr@1 (seed 1)", "t-gr@2 (seed 2)", "t-asr@1 (seed 1)", "t-asr@2 (seed 2)"]
    assert "gr is trained once" in done.stderr


def test_labels_out_of_the_set_are_refused_and_skipped(amask, data):
    lines = data.read_text().splitlines()
    at = next(at for at, line in enumerate(lines) if '"gr"' in line and '"train"' in line)
    row = json.loads(lines[at])
    row["labels"]["gr"] = "xyz"
    data.write_text("\n".join([*lines[:at], json.dumps(row), *lines[at + 1 :]]))
    done = amask("bank", "train", "gr", "--data", data, *QUICK)
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"clip {at + 1} of the data" in done.stderr
    assert "'xyz' is not a label of gr; expected one of" in done.stderr
    done = amask("bank", "train", "gr", "--data", data, *QUICK, "--skip-bad")
    assert done.exit_code == 0, done.stderr
    assert "are left out; the first: clip" in done.stderr


def test_training_is_deterministic(amask, data):
    for name in ("one", "two"):
        assert amask("bank", "train", "gr", "--data", data, *QUICK, "--name", name).exit_code == 0
    assert json.loads(amask("bank", "compare", "one", "two", "--json").stdout)["pairs"][0]["jaccard"] == 1


def test_a_stopped_training_goes_on(amask, process, data, tmp_path):
    """After a kill, and after Ctrl-C, which says so: to the same mask as without a stop."""
    arguments = ("bank", "train", "gr", "--data", data, "--steps", "10", "--batch", "2", "--json")
    whole = amask(*arguments, "--bank", tmp_path / "whole")
    assert whole.exit_code == 0, whole.stderr
    assert "resuming from step" not in whole.stderr
    for how in (signal.SIGKILL, signal.SIGINT):
        bank = tmp_path / how.name
        stop_a_training(process(*arguments, "--bank", bank), bank, how)
        resumed = amask(*arguments, "--bank", bank)
        assert resumed.exit_code == 0, resumed.stderr
        assert "resuming from step" in resumed.stderr
        assert json.loads(resumed.stdout) == json.loads(whole.stdout)
        files = [next(folder.glob("gr/*.safetensors")).read_bytes() for folder in (bank, tmp_path / "whole")]
        assert files[0] == files[1]


def stop_a_training(running, bank, how):
    """Once it has a checkpoint."""
    checkpoints = bank / ".training"
    until = time.monotonic() + 120
    while not list(checkpoints.glob("gr-*.checkpoint")) and time.monotonic() < until and running.poll() is None:
        time.sleep(0.02)
    os.kill(running.pid, how)
    _, stderr = running.communicate(timeout=60)
    assert list(checkpoints.glob("gr-*.checkpoint"))
    if how == signal.SIGINT:
        assert running.returncode == 130
        assert "the same command resumes" in stderr
    assert not list(bank.glob("gr/*.safetensors"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["lyrics"], 1, "unknown task 'lyrics'"),
        (["age"], 1, "no clip of the data has labels for age"),
        (["gr", "--steps", "-5"], 1, "steps -5: input should be greater than or equal to 1"),
        (["gr", "--seeds", "x"], 1, "--seeds 'x'"),
        (["gr", "--sparsity", "-1"], 1, "sparsity -1"),
        (["gr", "--data", "absent.jsonl"], 1, "absent.jsonl"),
        (["gr", "--name", "a/b"], 1, "is not a mask's name"),
        (["gr", "--name", "gr@3"], 1, "gets its version from the bank"),
        (["gr", "--bank", "/proc/none"], 1, "cannot write to bank"),
        (["gr", "--out", "absent/m.safetensors"], 1, "cannot write --out absent/m.safetensors"),
        (["gr", "asr", "--out", "m.safetensors"], 1, "--out takes one .safetensors file"),
    ],
)
def test_bad_trainings(amask, arguments, code, message):
    done = amask("bank", "train", *arguments)
    assert done.exit_code == code
    assert done.stdout == ""
    assert message in done.stderr


def test_compose_set_operations(amask, data):
    """What a set operation does to its parts' tasks is said."""
    done = amask("compose", "gr", "AND", "asr", "--data", data)
    assert done.exit_code == 0, done.stderr
    said = done.stderr.splitlines()
    for task, metric in (("gr", "acc"), ("asr", "wer")):
        assert any(line.startswith(f"amask: on {task}: {metric}") and "3 clips" in line for line in said)
    shown = json.loads(amask("bank", "show", "gr-and-asr", "--json").stdout)
    both = json.loads(amask("bank", "compare", "gr", "asr", "--json").stdout)["pairs"][0]["both"]
    assert shown["heads_on"] == both
    assert shown["lineage"]["operation"] == "expression"
    assert [parent["task"] for parent in shown["lineage"]["parents"]] == ["gr", "asr"]


def test_compose_json_trains_a_composite(amask, data):
    few = ("--clips", 2, "--confirmation-clips", 1)
    done = amask("compose", "gr", "AND", "asr", "--json", "--data", data, *QUICK, *few, "--name", "both", "--retrain")
    assert done.exit_code == 0, done.stderr
    shown = json.loads(amask("bank", "show", "both", "--json").stdout)
    assert shown["task"] == "gr-asr-json"
    assert shown["lineage"]["recipe"]["held"] == 1
    record = shown["lineage"]["composite"]
    assert record["how"] == "trained"
    assert record["candidate"].startswith("trained from ")
    assert {"gr AND asr", "gr OR asr", "gr", "asr"} <= {row["candidate"] for row in record["table"]}


def test_compose_json_takes_a_trained_mask_of_the_bank_without_training(amask, data, monkeypatch):
    monkeypatch.setattr("amask.cli.training.prepare", lambda *_: pytest.fail("it trains"))
    asked = ("compose", "gr", "AND", "asr", "--json", "--data", data, "--clips", 2, "--output", "json")
    done = amask(*asked)
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["name"], told["how"]) == ("gr-asr-json", "selected")
    assert told["result"]["ifr"] >= 90
    again = json.loads(amask(*asked).stdout)
    assert again["version"] == told["version"]


def test_compose_by_own_labels_says_so_and_how_far_it_is(amask, data):
    options = ("--data", data, "--self-label", "--no-train", "--clips", 2, "--budget", 20, "--name", "own", "--output", "json")
    done = amask("compose", "gr", "AND", "asr", "--json", *options)
    assert done.exit_code == 0, done.stderr
    assert re.search(r"own masks label clips: (\d+) of \1\b", done.stderr)
    assert "their answers are used as pseudo-labels" in done.stderr
    record = json.loads(amask("bank", "show", "own", "--json").stdout)["lineage"]["composite"]
    assert record["labels"]["from"] == "own masks"
    assert not record["reached"]  # two clips say little


@pytest.mark.parametrize("expression", [["gr", "AND"], ["gr", "AND", "nothing"], ["NOT", "gr", "--json"]])
def test_bad_expressions(amask, expression):
    done = amask("compose", *expression)
    assert done.exit_code == 1
    assert done.stderr.strip().count("\n") == 0


def test_an_unreadable_expression_is_reported_before_the_model_is_loaded(amask, monkeypatch):
    monkeypatch.setattr("amask.cli.compose.open_model", lambda *_: pytest.fail("the model was loaded"))
    done = amask("compose", "gr", "AND", "AND", "asr")
    assert done.exit_code == 1
    assert "at column 8 of 'gr AND AND asr'" in done.stderr


def test_composed_masks_can_be_composed_by_the_names_they_got(amask, data):
    for expression in ("NOT gr", "gr AND (asr OR ser)", "(gr AND asr) OR ser"):
        assert amask("compose", *expression.split(), "--data", data).exit_code == 0
    masks = json.loads(amask("bank", "list", "--json").stdout)
    names = [mask["name"] for mask in masks if mask["lineage"]["operation"] == "expression"]
    assert len(set(names)) == 3
    for name in names:
        assert amask("compose", name, "AND", "asr", "--data", data).exit_code == 0
    done = amask("compose", "gr", "AND", "asrr")
    assert done.exit_code == 1
    assert "did you mean asr" in done.stderr
    assert "(at column 8 of 'gr AND asrr')" in done.stderr


def test_help_is_quick(process):
    started = time.monotonic()
    done = process("--help")
    done.communicate(timeout=30)
    assert done.returncode == 0
    # Not a benchmark: heavy imports take several seconds even on fast machines.
    assert time.monotonic() - started < 3
