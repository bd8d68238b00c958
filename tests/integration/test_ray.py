"""Bulk runs and the server on a local Ray cluster; slow, since Ray starts anew."""

import json
import os
import socket
import sys
import time

import numpy as np
import pytest
import soundfile

# AMASK_RAY_CLIPS=500 for a long run.
CLIPS = int(os.environ.get("AMASK_RAY_CLIPS", "12"))
PART_ROWS = max(2, CLIPS // 50)
RATE = 16_000
VOICES = ("woman.opus", "man.opus")
# Read by Ray when it starts. On a machine that does other work, too, all of it is slow to start, and Serve kills a
# proxy that does not answer within 5 s, three times in a row, and starts another, which is no quicker.
PATIENCE = {
    "RAY_raylet_start_wait_time_s": "180",
    "RAY_worker_niceness": "0",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "120",
}
for name, value in PATIENCE.items():
    os.environ.setdefault(name, value)


def rows_of(out) -> dict[str, dict]:
    import pyarrow.parquet as pq

    rows = [row for part in sorted(out.glob("*.parquet")) for row in pq.read_table(part).to_pylist()]
    found = {row["id"]: row for row in rows}
    assert len(found) == len(rows), "an id was answered twice"
    return found


@pytest.fixture
def folder(root, tmp_path):
    """Clips of two seconds that all differ, by turns of a woman and a man, and one that is none."""
    import soxr

    where = tmp_path / "clips"
    where.mkdir()
    voices = [soxr.resample(*soundfile.read(root / "docs" / "clips" / name, dtype="float32"), RATE) for name in VOICES]
    for at in range(CLIPS - 1):
        voice = voices[at % 2]
        start = at * 997 % (len(voice) - 2 * RATE)
        soundfile.write(where / f"{at:03}.wav", voice[start : start + 2 * RATE] * np.float32(1 - at / (2 * CLIPS)), RATE)
    (where / "bad.wav").write_bytes(b"no audio")
    return where


def kill_with_children(process) -> None:
    """SIGKILL a process and all that it started: the head of the cluster, its workers, whatever they started."""
    import psutil

    begun = psutil.Process(process.pid).children(recursive=True)
    for each in (process, *begun):
        each.kill()
    psutil.wait_procs(begun, timeout=60)


def test_without_ray_the_command_names_the_extra(amask, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    found = amask("batch", folder, tmp_path / "out", "--task", "gr", "--ray", "local")
    assert found.exit_code == 1
    assert "pip install 'amask[ray]'" in found.stderr.strip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.timeout(1200 + 10 * CLIPS)
def test_killed_half_way_and_resumed_it_is_the_same_table(amask, process, folder, tmp_path, assert_same_rows):
    pytest.importorskip("ray.data", reason="ray is not installed")
    options = ("--task", "gr", "--part-rows", str(PART_ROWS), "--json")
    assert amask("batch", folder, tmp_path / "wanted", *options).exit_code == 0
    wanted, out = rows_of(tmp_path / "wanted"), tmp_path / "out"
    assert len(wanted) == CLIPS
    assert {row["text"] for row in wanted.values()} == {"female", "male", None}
    on_ray = ("batch", folder, out, *options, "--ray", "local", "--workers", "2")
    run = process(*on_ray)
    while run.poll() is None and len(list(out.glob("*.parquet"))) < CLIPS // PART_ROWS // 2:
        time.sleep(0.05)
    assert run.poll() is None, run.communicate()
    kill_with_children(run)
    _, said = run.communicate(timeout=120)
    before = rows_of(out)
    assert 0 < len(before) < CLIPS, said
    run = process(*on_ray)
    done, said = run.communicate(timeout=900 + 10 * CLIPS)
    assert run.returncode == 0, said
    told = json.loads(done)
    assert (told["answered"], told["skipped"]) == (CLIPS - len(before), len(before))
    assert_same_rows(rows_of(out).values(), wanted.values())


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_server_runs_under_ray_serve(pipe, clip):
    import base64
    import urllib.request

    ray = pytest.importorskip("ray", reason="ray is not installed")
    serve = pytest.importorskip("ray.serve", reason="ray[serve] is not installed")
    from amask.errors import DataError
    from amask.serving.cluster import app

    with pytest.raises(DataError, match="nothing"):
        app({"nothing": "1"})
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(app({"model": "pocket"}), route_prefix="/")
        address = f"http://127.0.0.1:{port}/v1"
        audio = {"data": base64.b64encode(clip.read_bytes()).decode(), "format": "opus"}
        body = {"model": "pocket:gr", "messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": audio}]}]}
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{address}/chat/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=300) as found:
            assert json.load(found)["choices"][0]["message"]["content"] == pipe(clip, task="gr").text
        client = pytest.importorskip("openai", reason="openai is not installed").OpenAI(base_url=address, api_key="none")
        with clip.open("rb") as file:
            assert client.audio.transcriptions.create(model="pocket", file=file).text == pipe(clip, task="asr").text
        with clip.open("rb") as file:
            events = list(client.audio.transcriptions.create(model="pocket", file=file, stream=True))
        assert "".join(event.delta for event in events[:-1]) == events[-1].text == pipe(clip, task="asr").text
        assert len(events) > 2, "the answer did not come as it was decoded"
    finally:
        serve.shutdown()
        ray.shutdown()


@pytest.fixture
def configuration(root, tmp_path):
    """The YAML file of the page on clusters, for one machine without a GPU, at a free port."""
    import re

    import yaml

    found = yaml.safe_load(
        re.search(r"```yaml\n(.*?)```", (root / "docs" / "cluster.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    )
    (application,) = found["applications"]
    application["args"]["bank"] = str(tmp_path / "bank")
    application["deployments"][0].pop("ray_actor_options")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "serve.yaml").write_text(json.dumps(found | {"http_options": {"host": "127.0.0.1", "port": port}}))
    return tmp_path / "serve.yaml", f"http://127.0.0.1:{port}"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_serve_runs_the_page_s_configuration(configuration, pipe, clip):
    import subprocess

    import httpx

    pytest.importorskip("ray.serve", reason="ray[serve] is not installed")
    file, address = configuration
    command = [sys.executable, "-P", "-c", "from ray.serve.scripts import cli; cli()", "run", str(file)]
    with (file.parent / "log").open("w+") as log:
        run = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            found = None
            while found is None:
                assert run.poll() is None, (file.parent / "log").read_text()
                try:
                    answer = httpx.get(f"{address}/health", timeout=60)
                    found = answer if answer.status_code == 200 else None  # until then it is Ray's, not the app's
                except httpx.TransportError:
                    pass
                time.sleep(0.5)
            assert found.json()["status"] == "ok"
            form = {"files": {"file": clip.read_bytes()}, "data": {"model": "pocket"}}
            found = httpx.post(f"{address}/v1/audio/transcriptions", **form, timeout=300)
            assert found.json()["text"] == pipe(clip, task="asr").text
        finally:
            kill_with_children(run)
