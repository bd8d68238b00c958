"""What the command settles when it starts."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("given", "cores", "expected"),
    [
        ({}, 8, {"OMP_WAIT_POLICY": "PASSIVE"}),
        ({}, 2, {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "2"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, 8, {"OMP_WAIT_POLICY": "ACTIVE"}),
        ({"OMP_NUM_THREADS": "5"}, 2, {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "5"}),
    ],
)
def test_cores_are_shared_unless_the_user_says_otherwise(monkeypatch, given, cores, expected):
    from amask.cli import startup

    for name in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(8)), raising=False)
    monkeypatch.setattr(startup, "count_cores", lambda: cores)
    startup.share_cores()
    assert {name: os.environ[name] for name in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS") if name in os.environ} == expected
    for name in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


def test_they_are_shared_before_torch_is_imported(root):
    code = """
import os, sys
from amask.cli.startup import share_cores
assert "torch" not in sys.modules
share_cores()
assert "torch" not in sys.modules
print(os.environ["OMP_WAIT_POLICY"])
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment["PYTHONPATH"] = str(root.parent)
    done = subprocess.run([sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "PASSIVE\n"


def test_warnings_of_the_library_are_lines_on_stderr_once(capsys):
    import logging

    from amask.cli.startup import show_log

    show_log()
    show_log()
    logging.getLogger("amask.data.cache").warning("going on without a cache: %s", "[reason]")
    assert capsys.readouterr().err.splitlines().count("amask: going on without a cache: [reason]") == 1
