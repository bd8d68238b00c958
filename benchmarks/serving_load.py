"""A server under load: `python benchmarks/serving_load.py [--requests N] [--clients N …] [--clips N] [--max-batch N …]`.

`amask serve` runs as a process of its own on the pocket model; clients ask without pause, each for a clip of the slice's test
split and one of some masks, over connections that stay open. First all clients share one mask, for each of the masks, then
each request draws one. Every answer is compared with the pipeline's own, which is that of `amask run`. Printed: requests that
got another answer or none, the 50th and 95th percentile of the seconds to an answer, requests a second, and the server's
processor seconds a request, which other work on the machine changes least; of mixed masks also the share of what one mask at a
time gives, by seconds and by processor seconds (1: mixing costs nothing). `--max-batch 1` answers one by one, for comparison.
"""

import argparse
import base64
import http.client
import json
import os
import platform
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, quantiles
from urllib.parse import urlsplit

import psutil
import torch

import amask
from amask.data.manifest import Manifest
from amask.data.reading import read_manifest
from amask.evaluation.harness import clips_for
from amask.pocket import SLICE

MASKS = ("gr", "asr", "ser", "gr|asr")


@dataclass(frozen=True)
class Ask:
    """A request: its body, and the answer of the pipeline."""

    mask: str
    body: bytes
    wanted: str


@dataclass(frozen=True)
class Server:
    """A process that serves, and its host and port."""

    process: subprocess.Popen[str]
    host: str

    @property
    def processor(self) -> float:
        """Processor seconds that it took so far."""
        used = psutil.Process(self.process.pid).cpu_times()
        return used.user + used.system


@dataclass(frozen=True)
class Load:
    """What was measured."""

    wrong: int
    seconds: tuple[float, ...]
    wall: float
    processor: float = 0.0

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.seconds) / self.wall

    @property
    def cost(self) -> float:
        """Processor seconds of the server a request."""
        return self.processor / len(self.seconds)


def make_asks(count: int) -> dict[str, list[Ask]]:
    """Each mask's requests, one a clip."""
    pipe, found = amask.pipeline("pocket"), clips_for(amask.parse_task("gr-asr"), read_manifest(SLICE), "test")
    clips = Manifest(found.clips[:count], found.folder)
    paths = [clips.path(clip) for clip in clips]
    made = {}
    for mask in MASKS:
        answers = pipe(paths, task=mask, long="split", prune="off")
        made[mask] = [Ask(mask, body(mask, path.read_bytes()), answer.text) for path, answer in zip(paths, answers, strict=True)]
    return made


def body(mask: str, data: bytes) -> bytes:
    """A request's body."""
    audio = {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": "opus"}}
    return json.dumps({"model": f"pocket:{mask}", "messages": [{"role": "user", "content": [audio]}]}).encode()


def ask_all(server: Server, asks: Sequence[Ask], clients: int) -> Load:
    """Send requests from so many clients, each the next one as soon as it has its answer."""
    waiting, lock = iter(asks), threading.Lock()
    seconds, wrong = [], 0

    def client() -> None:
        nonlocal wrong
        connection = http.client.HTTPConnection(server.host, timeout=600)
        while True:
            with lock:
                ask = next(waiting, None)
            if ask is None:
                return connection.close()
            started = time.perf_counter()
            try:
                connection.request("POST", "/v1/chat/completions", ask.body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                found = json.loads(answer.read())
                right = answer.status == 200 and found["choices"][0]["message"]["content"] == ask.wanted
            except (OSError, http.client.HTTPException, ValueError):
                connection.close()  # the next request opens it again
                right = False
            with lock:
                seconds.append(time.perf_counter() - started)
                wrong += not right

    threads = [threading.Thread(target=client) for _ in range(clients)]
    started, before = time.perf_counter(), server.processor
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Load(wrong, tuple(seconds), time.perf_counter() - started, server.processor - before)


def serve(max_batch: int) -> tuple[Server, float]:
    """A server, and the seconds until it listens."""
    options = ["--port", "0", "--no-page", "--max-batch", str(max_batch), "--max-queue", "1000", "--timeout", "600"]
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-P", "-m", "amask", "serve", *options], stderr=subprocess.PIPE, text=True)
    lines = process.stderr
    for line in lines or ():
        if found := re.search(r"http://\S+", line):
            threading.Thread(target=lambda: [None for _ in lines or ()], daemon=True).start()
            return Server(process, urlsplit(found[0]).netloc), time.perf_counter() - started
    raise SystemExit("amask serve did not start")


def show(clients: int, masks: str, load: Load, share: str = "") -> None:
    """A line of the table."""
    at = quantiles(load.seconds, n=20) if len(load.seconds) > 1 else [load.seconds[0]] * 19
    cells = (
        clients,
        masks,
        len(load.seconds),
        load.wrong,
        f"{at[9]:.3f}",
        f"{at[18]:.3f}",
        f"{load.rate:.1f}",
        f"{load.cost:.3f}",
        share,
    )
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def measure(server: Server, asks: dict[str, list[Ask]], clients: int, requests: int) -> None:
    """The lines of a number of clients."""
    draw = random.Random(clients)
    alone = []
    for mask, its in asks.items():
        load = ask_all(server, draw.choices(its, k=max(requests // len(asks), clients)), clients)
        alone.append(load)
        show(clients, mask, load)
    mixed = [draw.choice(asks[mask]) for at in range(requests) for mask in [MASKS[at % len(MASKS)]]]
    draw.shuffle(mixed)
    load = ask_all(server, mixed, clients)
    shares = load.rate * mean(1 / each.rate for each in alone), mean(each.cost for each in alone) / load.cost
    show(clients, "mixed", load, "{:.2f}, {:.2f}".format(*shares))


def main(clients: Sequence[int], requests: int, count: int, batches: Sequence[int]) -> None:
    """The settings, and a table for each batch size."""
    print(f"amask {amask.__version__}, torch {torch.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores,")
    print(f"{count} clips, {requests} requests with mixed masks and {requests // len(MASKS)} with each, masks {', '.join(MASKS)}")
    asks = make_asks(count)
    for max_batch in batches:
        server, seconds = serve(max_batch)
        try:
            first = ask_all(server, asks["gr"][:1], 1)
            print(f"\n--max-batch {max_batch}: listens after {seconds:.1f} s, the first answer takes {first.wall:.2f} s\n")
            print(
                "| clients | masks | requests | wrong | p50, s | p95, s | a second | processor s | share of one mask at a time |"
            )
            print("|---|---|---|---|---|---|---|---|---|")
            for number in clients:
                measure(server, asks, number, requests)
        finally:
            server.process.terminate()
            server.process.wait(60)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32, 100])
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--max-batch", type=int, nargs="+", default=[16, 1])
    given = parser.parse_args()
    main(given.clients, given.requests, given.clips, given.max_batch)
