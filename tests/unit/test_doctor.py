"""`amask doctor`: healthy, and with each thing broken that it promises to find."""

import importlib.metadata
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

# As torch-npu 2.13 does without CANN; and it talks.
WITHOUT_CANN = """
import os
os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"
import torch
print("hello from torch_npu")
raise ImportError("libhccl.so: cannot open shared object file: No such file or directory\\n[ERROR] more lines")
"""
REASON = "libhccl.so: cannot open shared object file: No such file or directory"


@pytest.fixture
def package(tmp_path):
    """Puts a package into a folder, with metadata, and gives back the folder."""

    def put(name, code="", version="1.0", metadata=(), entry_points=""):
        module = name.replace("-", "_")
        if code:
            (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"{module}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *metadata]
        (info / "METADATA").write_text("\n".join(lines) + "\n")
        (info / "entry_points.txt").write_text(entry_points)
        return tmp_path

    return put


@pytest.fixture
def npu_without_cann(package):
    return package("torch-npu", WITHOUT_CANN, "2.13.0", entry_points="[torch.backends]\ntorch_npu = torch_npu:_autoload\n")


@pytest.fixture
def doctor():
    """Runs the command in this process; gives back the result and, of --json, the tree."""
    from typer.testing import CliRunner

    from amask.cli.main import app

    def run(*options):
        done = CliRunner().invoke(app, ["doctor", *options], catch_exceptions=False)
        return done, json.loads(done.stdout) if "--json" in options else {}

    return run


def test_a_healthy_machine(doctor):
    done, tree = doctor("--json")
    assert (done.exit_code, tree["ok"], tree["problems"]) == (0, True, [])
    assert list(tree) == ["versions", "devices", "models", "extras", "tools", "masks", "folders", "problems", "ok"]
    assert tree["versions"]["torch"] == torch.__version__
    assert tree["versions"]["transformers"] == importlib.metadata.version("transformers")
    assert tree["devices"]["cpu"]["threads"] == torch.get_num_threads()
    assert tree["devices"]["cpu"]["bytes"] > 100_000_000
    assert tree["models"]["pocket"]["bytes"] > 1_000_000
    assert tree["masks"]["bundled"]["masks"] > 0
    assert tree["masks"]["your bank"] == {"masks": 0, "damaged": 0, "path": os.environ["AMASK_BANK"]}


def test_the_table_is_for_people(doctor):
    done, _ = doctor()
    lines = done.stdout.splitlines()
    assert done.exit_code == 0
    assert lines[-1] == "no problems found"
    assert any(line.split()[:3] == ["versions", "amask", importlib.metadata.version("amask")] for line in lines)
    assert any("pip install 'amask[" in line or line.split()[-1:] == ["installed"] for line in lines)


def test_versions_and_extras_are_the_packages_own(doctor, package, monkeypatch):
    wanted = [
        "Provides-Extra: whole",
        "Provides-Extra: half",
        "Provides-Extra: none",
        "Requires-Dist: jiwer>=99",
        "Requires-Dist: torch<3,>=2.6",
        "Requires-Dist: not-there>=1; python_version < '3'",
        "Requires-Dist: nowhere<2,>=1",
        "Requires-Dist: pytest>=1; extra == 'whole'",
        "Requires-Dist: pytest>=1; extra == 'half'",
        "Requires-Dist: nonesuch; extra == 'half'",
        "Requires-Dist: pytest>=1000; extra == 'none'",
    ]
    monkeypatch.syspath_prepend(package("amask", metadata=wanted))
    done, tree = doctor("--json")
    jiwer = importlib.metadata.version("jiwer")
    assert done.exit_code == 1
    assert tree["problems"] == [
        f"jiwer is {jiwer}; amask needs jiwer>=99: pip install 'jiwer>=99'",
        "nowhere is missing; amask needs nowhere<2,>=1: pip install 'nowhere<2,>=1'",
    ]
    assert tree["versions"].keys() == {"amask", "python", "torch", "jiwer", "nowhere"}
    assert tree["versions"]["nowhere"] is None
    assert tree["extras"] == {
        "whole": {"installed": True, "missing": []},
        "half": {"installed": False, "missing": ["nonesuch"]},
        "none": {"installed": False, "missing": ["pytest>=1000"]},
    }
    text = doctor()[0].stdout
    assert "without nonesuch: pip install 'amask[half]'" in text
    assert "not installed: pip install 'amask[none]'" in text
    assert text.splitlines()[-1] == f"problem: {tree['problems'][1]}"


def test_the_traps_cure(doctor, npu_without_cann, monkeypatch):
    monkeypatch.syspath_prepend(npu_without_cann)
    monkeypatch.setenv("TORCH_DEVICE_BACKEND_AUTOLOAD", "1")
    done, tree = doctor("--json")
    assert done.exit_code == 1
    (problem,) = tree["problems"]
    assert problem.startswith(f"torch-npu 2.13.0 cannot be loaded ({REASON}), so torch cannot either; ")
    assert "pip uninstall torch-npu" in problem
    assert "install CANN" in problem
    assert "TORCH_DEVICE_BACKEND_AUTOLOAD=0 is not enough" in problem
    assert os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] == "1"
    assert tree["versions"]["torch"] == torch.__version__  # all the rest is told nevertheless
    assert tree["masks"]["bundled"]["masks"] > 0


def _process(folder, *arguments, **environment):
    command = [sys.executable, "-P", "-m", "amask", *arguments]
    given = os.environ | {"PYTHONPATH": str(folder)} | environment
    return subprocess.run(command, env=given, capture_output=True, text=True, check=False)


def test_the_trap_in_a_process_of_its_own(npu_without_cann):
    """Where torch is not imported yet."""
    done = _process(npu_without_cann, "doctor", "--json")
    tree = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (1, "hello from torch_npu\n")
    assert tree["devices"]["torch_npu"] is None
    assert [REASON in problem for problem in tree["problems"]] == [True]


def test_other_commands_point_to_the_doctor(npu_without_cann):
    """Since torch cannot be imported: torch._import_device_backends."""
    done = _process(npu_without_cann, "bank", "list")
    assert done.returncode == 1
    assert done.stderr == f"amask: a library cannot be loaded ({REASON}); 'amask doctor' says what to do\n"


def test_without_autoload_transformers_falls_into_the_trap(root, npu_without_cann):
    """Hence the advice that torch's own way out is not enough."""
    clip = str(root / "docs" / "clips" / "woman.opus")
    done = _process(npu_without_cann, "run", "--task", "gr", clip, TORCH_DEVICE_BACKEND_AUTOLOAD="0")
    assert done.returncode == 1
    assert done.stderr == f"amask: a library cannot be loaded ({REASON}); 'amask doctor' says what to do\n"


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ModuleNotFoundError("No module named 'jiwer'", name="jiwer"), "No module named 'jiwer'"),
        (OSError("libcudart.so.12: cannot open shared object file"), "libcudart.so.12: cannot open shared object file"),
        (RuntimeError("Two accelerators cannot be used at the same time"), "Two accelerators cannot be used at the same time"),
        (ImportError("cannot import name 'x' from 'amask.lalm'", name="amask.lalm"), None),
        (RuntimeError("CUDA out of memory"), None),
        (FileNotFoundError(2, "No such file or directory"), None),
    ],
    ids=lambda value: value and str(value)[:30],
)
def test_only_what_cannot_be_loaded_is_sent_to_the_doctor(error, shown, capsys):
    import typer

    from amask.cli.common import one_line_errors

    with pytest.raises(typer.Exit if shown else type(error)) as caught, one_line_errors():
        raise error
    if shown:
        assert caught.value.exit_code == 1
        assert capsys.readouterr().err == f"amask: a library cannot be loaded ({shown}); 'amask doctor' says what to do\n"


def test_another_backend_may_be_switched_off(doctor, package, monkeypatch):
    points = "[torch.backends]\nodd = odd_backend:start\n"
    monkeypatch.syspath_prepend(package("odd-backend", "raise RuntimeError('no driver')", entry_points=points))
    monkeypatch.delenv("TORCH_DEVICE_BACKEND_AUTOLOAD", raising=False)
    fix = "pip uninstall odd-backend, or set TORCH_DEVICE_BACKEND_AUTOLOAD=0"
    assert doctor("--json")[1]["problems"] == [f"odd-backend 1.0 cannot be loaded (no driver), so torch cannot either; {fix}"]
    monkeypatch.setenv("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
    assert doctor("--json")[1]["ok"]


@pytest.mark.parametrize("name", ["torchvision", "torchaudio", "torchcodec"])
def test_a_companion_for_another_torch(doctor, package, monkeypatch, name):
    code = f"raise OSError('_{name}.so: undefined symbol: _ZN3c10')"
    monkeypatch.syspath_prepend(package(name, code, "0.1", ["Requires-Dist: torch==2.0.0"]))
    monkeypatch.delitem(sys.modules, name, raising=False)
    done, tree = doctor("--json")
    (problem,) = tree["problems"]
    assert done.exit_code == 1
    assert problem.startswith(f"{name} 0.1 cannot be loaded (_{name}.so: undefined symbol: _ZN3c10); it is made for torch==2.0.0")
    assert problem.endswith(f"pip uninstall {name}")


def test_cards_are_listed(doctor, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda at: f"Card {at}")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda at: SimpleNamespace(total_memory=(at + 1) * 10**10))
    done, tree = doctor("--json")
    assert done.exit_code == 0
    assert tree["devices"]["cuda:0"] == {"name": "Card 0", "bytes": 10**10}
    assert "cuda:1" in tree["devices"]
    assert "Card 1, 20.0 GB" in doctor()[0].stdout

    def fail(_: int) -> None:
        raise RuntimeError("CUDA driver initialization failed")

    monkeypatch.setattr(torch.cuda, "get_device_name", fail)
    (problem,) = doctor("--json")[1]["problems"]
    assert "CUDA driver initialization failed; check their driver" in problem


def test_a_card_that_torch_does_not_see(doctor, monkeypatch):
    from amask import doctor as module

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(module, "DEVICE_NODES", {"cuda": ("null", "TEST_VISIBLE")})
    monkeypatch.delenv("TEST_VISIBLE", raising=False)
    (problem,) = doctor("--json")[1]["problems"]
    assert problem.startswith(f"there is a cuda card, but torch {torch.__version__} does not see it; ")
    monkeypatch.setenv("TEST_VISIBLE", "")
    assert doctor("--json")[1]["ok"]


def test_models_of_the_hub_are_listed(doctor, tmp_path, monkeypatch):
    from huggingface_hub import constants

    for name in ("models--some--model", "datasets--some--data"):
        revision = tmp_path / name / "snapshots" / ("0" * 40)
        blobs, refs = tmp_path / name / "blobs", tmp_path / name / "refs"
        for folder in (revision, blobs, refs):
            folder.mkdir(parents=True)
        (blobs / "weights").write_bytes(b"x" * 12_345)
        (revision / "model.safetensors").symlink_to(blobs / "weights")
        (refs / "main").write_text("0" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    _, tree = doctor("--json")
    assert tree["models"]["some/model"] == {"bytes": 12_345, "path": str(tmp_path / "models--some--model")}
    assert tree["models"].keys() == {"pocket", "some/model"}
    assert "12.3 kB, in the Hugging Face cache" in doctor()[0].stdout


def test_what_is_missing_from_the_package(doctor, tmp_path, monkeypatch):
    from amask import doctor as module
    from amask.mask_bank import bank

    monkeypatch.setattr(module, "WEIGHTS", tmp_path / "model.safetensors")
    monkeypatch.setattr(bank, "BUNDLED", tmp_path / "bundled")
    done, tree = doctor("--json")
    assert done.exit_code == 1
    assert [problem.partition(";")[0] for problem in tree["problems"]] == [
        "the pocket model's weights are missing",
        "the bundled masks are missing",
    ]


def test_a_bank_that_is_none_and_a_damaged_mask(doctor, tmp_path):
    file = tmp_path / "file"
    file.touch()
    done, tree = doctor("--json", "--bank", str(file))
    assert done.exit_code == 1
    assert str(file) in tree["problems"][0]
    damaged = tmp_path / "bank" / "gr" / "1.safetensors"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"nothing")
    _, tree = doctor("--json", "--bank", str(tmp_path / "bank"))
    assert tree["masks"]["your bank"]["damaged"] == 1
    assert str(damaged) in tree["problems"][0]


def test_tools_are_looked_for_on_the_path(doctor, tmp_path, monkeypatch):
    tool = tmp_path / "ffmpeg"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    done, tree = doctor("--json")
    assert {name: found["path"] for name, found in tree["tools"].items()} == {
        "ffmpeg": str(tool),
        "espeak-ng": None,
        "flite": None,
    }
    assert done.exit_code == 0  # they are not needed


def test_its_facts_need_neither_torch_nor_the_command_line():
    """The standard library is all that it imports before it is asked."""
    code = "import sys, amask.doctor; print([n for n in ('torch', 'typer', 'rich', 'numpy', 'packaging') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_folders_that_cannot_be_written_are_named(doctor, tmp_path, monkeypatch):
    """A home that is a file's place, or read-only, is a problem before the first training ends in it."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AMASK_BANK", str(tmp_path / "file" / "bank"))
    monkeypatch.setenv("AMASK_CACHE", str(tmp_path / "free" / "cache"))
    result, tree = doctor("--json")
    assert result.exit_code == 1
    assert tree["folders"]["cache"] == {"path": str(tmp_path / "free" / "cache"), "writable": True}
    assert not tree["folders"]["bank"]["writable"]
    (problem,) = [each for each in tree["problems"] if "bank folder" in each]
    assert "is no folder" in problem and "set AMASK_BANK" in problem
    monkeypatch.setattr("os.access", lambda *_: False)
    assert not doctor("--json")[1]["folders"]["cache"]["writable"]
