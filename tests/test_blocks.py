"""Work is shared out to threads, in each of which torch may be kept to one."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bleep_sc import _blocks
from bleep_sc._blocks import threads
from bleep_sc._side_effects import Cores, one_thread


@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize("n", [0, 1, 4, 11])
def test_each_row_is_worked_on_once_and_torch_takes_one_thread(n_threads: int, n: int) -> None:
    torch.set_num_threads(n_threads)
    worked_on, torch_has, barrier = np.zeros(n, dtype=int), set(), threading.Barrier(max(1, min(n_threads, n)))

    def work(part: slice) -> None:
        barrier.wait(timeout=60)  # all at the same time
        worked_on[part] += 1
        torch_has.add(torch.get_num_threads())

    with threads() as in_threads, one_thread():
        for _ in range(3):
            in_threads(work, n)
    assert worked_on.tolist() == [3] * n
    assert torch_has == {1}
    assert torch.get_num_threads() == n_threads


def test_the_number_of_torch_comes_back_after_an_error_of_any_thread() -> None:
    torch.set_num_threads(3)

    def work(part: slice) -> None:
        if part.start:
            raise RuntimeError("within")

    with pytest.raises(RuntimeError, match="within"), threads() as in_threads, one_thread():
        in_threads(work, 3)
    assert torch.get_num_threads() == 3


def test_without_torch_they_are_as_many_as_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs no torch does not load it to count its threads."""
    monkeypatch.setattr(_blocks, "sys", SimpleNamespace(modules={}))
    monkeypatch.setattr(_blocks, "allowed", lambda: Cores(3, 8, "the test says so"))
    parts = []
    with threads() as in_threads:
        in_threads(parts.append, 9)
    assert sorted(parts, key=lambda part: part.start) == [slice(0, 3), slice(3, 6), slice(6, 9)]
