"""Jobs at once, on threads of their own."""

import threading
import time
from collections.abc import Iterable
from threading import Barrier

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bleep_sc as bl
from bleep_sc.models.device import resolve_compute
from bleep_sc.models.train.at_once import EndedTogether, at_once
from bleep_sc.models.train.batches import Batch, Batches
from bleep_sc.models.train.loop import Optimization, train


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_jobs(n_threads: int) -> None:
    def job(number: int) -> int:
        time.sleep(0.02 / (number + 1))
        return number

    waited = []

    def watch(items: Iterable[object]) -> Iterable[object]:
        for item in items:
            waited.append(item)
            yield item

    results = at_once([lambda number=n: job(number) for n in range(5)], n_threads=n_threads, watch=watch)
    assert results == [0, 1, 2, 3, 4]
    assert len(waited) == 5


def test_as_many_run_at_once_as_there_are_threads() -> None:
    """Each waits for the other; one thread alone runs where the call is made."""
    together = Barrier(2, timeout=20)
    assert sorted(at_once([together.wait] * 2, n_threads=2)) == [0, 1]
    assert at_once([threading.current_thread] * 2, n_threads=1) == [threading.current_thread()] * 2


def test_settings_hold_in_each_job() -> None:
    with bl.settings.override(memory=17.0):
        assert at_once([lambda: bl.settings.memory] * 3, n_threads=2) == [17.0] * 3


class Slow(nn.Module):
    """A model of one weight that never ends training by itself."""

    def __init__(self, begun: Barrier) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.begun: Barrier | None = begun
        self.steps = 0

    def loss(self, batch: Batch) -> Tensor:
        if self.begun is not None:
            self.begun.wait()
            self.begun = None
        self.steps += 1
        time.sleep(0.001)
        return (self.weight**2).sum()


@pytest.mark.parametrize("failing_comes", ["first", "last"])
@pytest.mark.parametrize("error", [ValueError("of one"), KeyboardInterrupt()])
def test_trainings_end_where_one_job_fails(
    error: BaseException, failing_comes: str, log: pytest.LogCaptureFixture
) -> None:
    """They would go on for a million epochs; jobs that have not begun do not begin."""
    begun = Barrier(2, timeout=20)
    model, ended = Slow(begun), []
    rows = np.zeros((4, 2), dtype=np.float32)

    def failing() -> None:
        begun.wait()
        raise error

    def training() -> None:
        try:
            train(
                model,
                Batches(rows, rows, np.arange(4), batch_size=2),
                None,
                optimization=Optimization(lr=0.1, weight_decay=0.0, max_epochs=10**6, patience=0),
                compute=resolve_compute(progress_bar=False),
                announce=False,
            )
        except EndedTogether as err:
            ended.append(err)
            raise

    jobs = [failing, training] if failing_comes == "first" else [training, failing]
    with pytest.raises(type(error)) as raised:
        at_once([*jobs, lambda: pytest.fail("it has begun")], n_threads=2)
    assert raised.value is error
    assert len(ended) == 1
    assert model.steps < 10**5
    assert "Interrupted after epoch" in log.text
