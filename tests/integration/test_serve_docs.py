"""What docs/serving.md says is so: its commands and its Python run against a server."""

import os
import re
import shutil
import subprocess

import pytest


@pytest.fixture(scope="module")
def page(root) -> str:
    return (root / "docs" / "serving.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(root, tmp_path, monkeypatch):
    """A folder with what the examples name."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    clips = root / "docs" / "clips"
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "clips").symlink_to(clips)
    (tmp_path / "clips").symlink_to(clips)
    pq.write_table(pa.table({"audio": [path.read_bytes() for path in clips.iterdir()]}), tmp_path / "clips.parquet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server(folder, served):
    """A server with an admin key; gives its address."""
    import amask
    from amask.mask_bank.bank import BUNDLED
    from amask.mask_bank.files import to_bytes
    from amask.serving.app import create_app
    from amask.serving.service import ServerSettings

    pipe = amask.pipeline("pocket", amask.MaskBank(folder / "bank", BUNDLED))
    (folder / "mine.safetensors").write_bytes(to_bytes(pipe.bank.get("gr", pipe.identity).mask, "gr", 1))
    with served(create_app(pipe, settings=ServerSettings(admin_key="admin"))) as address:
        yield address


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_curl_s_examples_are_answered(page, server):
    lines = re.findall(r"^curl .*$", page, re.M)
    assert len(lines) >= 6
    for line in lines:
        command = line.replace("127.0.0.1:8080", server).replace("curl ", "curl --silent --show-error --fail-with-body ", 1)
        done = subprocess.run(
            ["bash", "-c", command], env={**os.environ, "KEY": "admin"}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        assert done.stdout.strip()


def test_python_s_example_is_answered(page, server, capsys):
    pytest.importorskip("openai", reason="openai is not installed")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    exec(code.replace("127.0.0.1:8080", server), {})
    assert capsys.readouterr().out.split() == ["female", "gr@1"]


def test_batch_s_examples_are_answered(page, folder, amask):
    import shlex

    for number, line in enumerate(re.findall(r"^amask batch .*$", page, re.M)):
        found = amask(*(word.replace("answers/", f"answers-{number}/") for word in shlex.split(line)[1:]))
        assert found.exit_code == 0, found.stderr
        assert "2 answered" in found.stderr
