"""One training in two processes: the mask of one process; and one that is left alone ends with a line."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
# Trains on a tiny model; the process' own part of it is in the environment. `slow` waits in each step.
SCRIPT = """
import importlib.util, sys, time
import numpy as np, torch
where, out, slow = sys.argv[1:4]
spec = importlib.util.spec_from_file_location("tiny", where)
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)
from amask.data.tasks import parse_task
from amask.errors import AmaskError
from amask.lalm.batching import PromptTemplate
from amask.lalm.qwen2_audio import Qwen2Audio
from amask.mask_bank.labelled_clips import LabelledClips
from amask.mask_bank.recipe import Recipe
from amask.mask_bank.training import MaskTrainer, TrainingJob
torch.set_num_threads(1)
model = Qwen2Audio("tiny", *tiny.build_tiny_qwen2_audio(0), PromptTemplate("<|audio_bos|>", "<|audio_eos|>{}"))
rng = np.random.default_rng(1)
waves = [rng.normal(0, 0.1, 8000 + 1600 * at).astype(np.float32) for at in range(10)]
labels = [{"gr": "male" if at % 2 else "female", "asr": f"word {at}"} for at in range(10)]
features = model.encode(waves)
train = LabelledClips(features.rows(list(range(8))), tuple(labels[:8]), tuple("abcdefgh"))
dev = LabelledClips(features.rows([8, 9]), tuple(labels[8:]), tuple("ij"))
recipe = Recipe(steps=5, batch=6, warmup=1, evaluations=2, dev_clips=2, sparsity=0.1)
trainer = MaskTrainer(model, [TrainingJob(parse_task("gr"), 1), TrainingJob(parse_task("asr"), 2)], train, dev, recipe)
try:
    for now in trainer.run():
        print("step", now.step, flush=True)
        time.sleep(float(slow))
except AmaskError as error:
    sys.exit(str(error))
torch.save([mask.logits for mask in trainer.masks], out)
"""


def start(out, rank, size, port, slow="0"):
    env = dict(os.environ) | {"OMP_NUM_THREADS": "1"}
    if size > 1:
        env |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(HERE / "conftest.py"), str(out), slow],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.slow
def test_two_processes_train_the_mask_of_one(tmp_path, port):
    running = [start(tmp_path / "alone", 0, 1, port), *(start(tmp_path / str(rank), rank, 2, port) for rank in range(2))]
    for process in running:
        _, errors = process.communicate(timeout=280)
        assert process.returncode == 0, errors[-2000:]
    alone, first, second = (torch.load(tmp_path / name) for name in ("alone", "0", "1"))
    for one, other, third in zip(alone, first, second, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, third)


@pytest.mark.slow
def test_a_process_that_is_left_alone_ends_with_a_line(tmp_path, port):
    first, second = (start(tmp_path / str(rank), rank, 2, port, slow="1") for rank in range(2))
    assert second.stdout.readline().startswith("step 1")
    second.kill()
    began = time.monotonic()
    _, errors = first.communicate(timeout=200)
    assert first.returncode == 1
    assert time.monotonic() - began < 120
    assert errors.strip().splitlines()[-1].startswith("another process of this training has ended")


def test_shares_are_all_of_the_work():
    from amask.mask_bank.distributed import Process

    work = list(range(7))
    shares = [Process(rank, 3).share(work) for rank in range(3)]
    assert sorted(item for share in shares for item in share) == work
    assert Process().share(work) == work
    assert Process().from_first("x") == "x"
