"""Checkpoints: whole or set aside, and a full disk stops no training."""

import errno
import os

import pytest
import torch


@pytest.fixture
def begin():
    from amask.mask_bank.checkpoint import TrainingState

    def make(seed=0, steps=3):
        state = TrainingState.begin(torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(seed)), 0.1)
        for _ in range(steps):
            state.optimizer.zero_grad()
            (state.logits**2).sum().backward()
            state.optimizer.step()
            state.step += 1
        state.dev_scores, state.merits, state.best = [1.5, None], [2.5, None], state.logits.detach() + 1
        return state

    return make


@pytest.fixture
def checkpoint(tmp_path):
    from amask.mask_bank.checkpoint import Checkpoint

    return Checkpoint(tmp_path / "folder", "0123456789abcdef" * 4, "gr+asr")


@pytest.mark.parametrize("steps", [0, 3])
def test_a_state_comes_back_to_the_bit(begin, checkpoint, steps):
    saved, loaded = begin(steps=steps), begin(seed=1, steps=0)
    checkpoint.save(saved)
    checkpoint.load(loaded)
    assert (loaded.step, loaded.dev_scores, loaded.merits) == (steps, [1.5, None], [2.5, None])
    assert torch.equal(loaded.logits, saved.logits)
    assert torch.equal(loaded.best, saved.best)
    for state in (saved, loaded):
        state.logits.grad = torch.ones_like(state.logits)
        state.optimizer.step()
    assert torch.equal(loaded.logits, saved.logits)


def test_the_name_tells_the_training(tmp_path):
    from amask.mask_bank.checkpoint import Checkpoint

    first, second = (Checkpoint(tmp_path, key * 64, "-".join(["a"] * 200)) for key in "12")
    assert first.path != second.path
    assert len(first.path.name) < 120


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: b"", lambda d: bytes(len(d)), lambda d: d[:200] + b"x" + d[201:]])
def test_a_damaged_file_is_set_aside_with_one_warning(begin, checkpoint, damage, caplog):
    checkpoint.save(begin())
    content = damage(checkpoint.path.read_bytes())
    checkpoint.path.write_bytes(content)
    state = begin(seed=1, steps=0)
    before = state.logits.detach().clone()
    checkpoint.load(state)
    assert (state.step, torch.equal(state.logits, before)) == (0, True)
    assert len(caplog.records) == 1
    assert "is damaged, so the training begins anew" in caplog.text
    assert not checkpoint.path.exists()
    assert checkpoint.path.with_suffix(".damaged").read_bytes() == content
    checkpoint.save(begin())
    checkpoint.load(state)
    assert state.step == 3


def test_a_file_of_another_training_is_not_gone_on_from(begin, checkpoint, tmp_path):
    from amask.mask_bank.checkpoint import Checkpoint

    other = Checkpoint(tmp_path, "f" * 64, "gr")
    other.save(begin())
    checkpoint.path.parent.mkdir()
    other.path.rename(checkpoint.path)
    state = begin(seed=1, steps=0)
    checkpoint.load(state)
    assert state.step == 0


def test_a_full_disk_leaves_the_old_file_and_is_said_once(begin, checkpoint, monkeypatch, caplog):
    checkpoint.save(begin())
    old = checkpoint.path.read_bytes()

    def full(_file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    later = begin(steps=5)
    checkpoint.save(later)
    checkpoint.save(later)
    assert [record.getMessage() for record in caplog.records] == [
        f"going on without a new checkpoint: cannot write {checkpoint.path}: No space left on device; free some room"
    ]
    assert checkpoint.path.read_bytes() == old
    monkeypatch.undo()
    checkpoint.save(later)
    state = begin(steps=0)
    checkpoint.load(state)
    assert state.step == 5
    checkpoint.remove()
    checkpoint.remove()
    assert not list(checkpoint.path.parent.iterdir())


def test_a_checkpoint_that_cannot_be_read_is_refused(begin, checkpoint):
    from amask.errors import FileError

    checkpoint.path.mkdir(parents=True)
    with pytest.raises(FileError, match="cannot go on from the checkpoint"):
        checkpoint.load(begin(steps=0))
