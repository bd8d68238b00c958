"""A loaded server and a bulk run on one bank, killed and started again: nothing is lost, and nothing answered twice."""

import json
import socket
import threading
import time

import numpy as np
import pytest
import soundfile

CLIPS = 60
CLIENTS = 4
MODELS = ("pocket:asr", "pocket:gr", "pocket:gr|asr")


class Clients:
    """Ask without pause, one model after the other, and go on when nobody answers.

    Args:
        address: of the server, which may come and go.
        clip: what they send.
    """

    def __init__(self, address: str, clip: bytes) -> None:
        self.address, self.clip = address, clip
        self.answers: list[tuple[str, int, str]] = []  # model, status, body
        self.broken = 0  # connections without an answer
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(at,)) for at in range(CLIENTS)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(300)

    def _ask(self, turn: int) -> None:
        import httpx

        while not self._stop.is_set():
            model = MODELS[(turn := turn + 1) % len(MODELS)]
            form = {"files": {"file": ("a.opus", self.clip)}, "data": {"model": model}}
            try:
                found = httpx.post(f"{self.address}/v1/audio/transcriptions", **form, timeout=300)
            except httpx.TransportError:
                self.broken += 1
                time.sleep(0.2)
            else:
                self.answers.append((model, found.status_code, found.text))


def wait_for(what) -> None:
    until = time.monotonic() + 600
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_killed_under_load_and_started_again(amask, process, listen, pipe, clip, wave, tmp_path, assert_same_rows):
    import pyarrow.parquet as pq

    def rows_of(out) -> list[dict]:
        return [row for part in out.glob("*.parquet") for row in pq.read_table(part).to_pylist()]

    clips, out = tmp_path / "clips", tmp_path / "out"
    clips.mkdir()
    for at in range(CLIPS):
        soundfile.write(clips / f"{at:02}.wav", wave[: 2 * 16_000] * np.float32(1 - at / (2 * CLIPS)), 16_000)
    options = ("--task", "gr", "--part-rows", "1", "--json")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Clients(f"http://127.0.0.1:{port}", clip.read_bytes()) as clients:
        with listen("--port", port, "--no-page") as server:
            wait_for(lambda: len(clients.answers) > CLIENTS)
            bulk = process("batch", clips, out, *options)
            wait_for(lambda: bulk.poll() is not None or len(list(out.glob("*.parquet"))) > CLIPS // 4)
            assert bulk.poll() is None, bulk.communicate()
            before = len(clients.answers)
            for each in (server.process, bulk):
                each.kill()
                each.wait(60)
        bulk.communicate()
        written = rows_of(out)
        assert CLIPS // 4 < len(written) < CLIPS
        wait_for(lambda: clients.broken > CLIENTS)
        again = len(clients.answers)
        assert before <= again <= before + CLIENTS
        with listen("--port", port, "--no-page"):
            bulk = process("batch", clips, out, *options)
            told, said = bulk.communicate(timeout=900)
            assert bulk.returncode == 0, said
            wait_for(lambda: len(clients.answers) > again + 3 * CLIENTS)
    assert json.loads(told) | {"out": None} == {
        "answered": CLIPS - len(written),
        "failed": 0,
        "skipped": len(written),
        "out": None,
    }
    rows = rows_of(out)
    assert len({row["id"] for row in rows}) == len(rows) == CLIPS
    assert amask("batch", clips, tmp_path / "wanted", *options).exit_code == 0
    assert_same_rows(rows, rows_of(tmp_path / "wanted"))
    wanted = {model: pipe(clip, task=model.partition(":")[2]).text for model in MODELS}
    for model, status, body in clients.answers:
        assert (status, json.loads(body)["text"]) == (200, wanted[model])
