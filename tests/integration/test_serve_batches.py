"""Which requests share a batch: those that are decoded, or those with the same labels; labels go first, but not for ever."""

import contextlib
import threading

import numpy as np
import pytest

WAVE = np.zeros(8000, np.float32)


@pytest.fixture
def queued(pipe, monkeypatch):
    """Queues tasks while the batcher is busy, and gives the batches that it then makes of them."""
    from amask.serving.batcher import Batcher, BatchSettings, QueueFullError
    from amask.serving.engine import RunOptions

    def batches(tasks: list[str], then: str = "", **settings: object) -> list[list[str]]:
        made, busy, going = [], threading.Event(), threading.Event()

        def answer(self, batch):
            busy.set()
            going.wait(30)
            made.append([row.route.task_name for row in batch])
            if then and len(made) < 12:  # as clients do that ask again
                with contextlib.suppress(QueueFullError):  # it is closed
                    self.submit([WAVE], pipe.route(task=then), RunOptions())
            for row in batch:
                row.future.set_result(None)

        monkeypatch.setattr(Batcher, "_answer", answer)
        with Batcher(pipe.model, BatchSettings(**{"max_wait_ms": 0.0} | settings)) as batcher:
            batcher.submit([WAVE], pipe.route(task="aac"), RunOptions())
            assert busy.wait(30)
            futures = [batcher.submit([WAVE], pipe.route(task=task), RunOptions())[0] for task in tasks]
            going.set()
            for future in futures:
                future.result(30)
        return made[1:]

    return batches


def test_rows_of_a_kind_are_answered_together_in_their_order(queued):
    assert queued(["asr", "gr", "gr|asr", "ser", "gr", "asr"]) == [["gr", "gr"], ["ser"], ["asr", "gr-asr", "asr"]]
    assert queued(["gr", "asr", "asr", "asr"], max_batch=2) == [["gr"], ["asr", "asr"], ["asr"]]


def test_labels_do_not_keep_the_others_waiting_for_ever(queued):
    from amask.serving.batcher import MAX_BEFORE

    found = queued(["asr", "gr"], then="gr")
    assert found.index(["asr"]) == MAX_BEFORE
    assert [each for each in found if each == ["asr"]] == [["asr"]]


def test_a_batch_waits_for_others_up_to_its_time(pipe, monkeypatch):
    from amask.serving.batcher import Batcher, BatchSettings
    from amask.serving.engine import RunOptions

    sizes = []

    def answer(self, batch):
        sizes.append(len(batch))
        for row in batch:
            row.future.set_result(None)

    monkeypatch.setattr(Batcher, "_answer", answer)
    with Batcher(pipe.model, BatchSettings(max_batch=3, max_wait_ms=60_000.0)) as batcher:
        route = pipe.route(task="gr")
        futures = [batcher.submit([WAVE], route, RunOptions())[0] for _ in range(3)]
        for future in futures:
            future.result(30)  # it is full before its time
        left = batcher.submit([WAVE], route, RunOptions())[0]
    left.result(0)  # closing waits no longer
    assert sizes == [3, 1]
