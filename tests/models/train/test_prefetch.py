import threading
import time
from collections.abc import Iterator

import pytest
import torch

from bleep_sc.models.train.prefetch import feed, prefetch


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("bleep_sc-prefetch")]


def test_hands_out_in_order_and_makes_one_ahead() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            yield number

    for number in prefetch(items(), 5):
        deadline = time.perf_counter() + 5
        while len(made) < min(number + 2, 5) and time.perf_counter() < deadline:
            time.sleep(0.001)
        time.sleep(0.01)
        assert made == list(range(min(number + 2, 5))), "not exactly one item is made ahead"
        assert bool(threads()) == (number < 4), "with the last item out, no thread is needed"
    assert list(prefetch(iter(range(3)), 3)) == [0, 1, 2]
    assert list(prefetch(iter(()), 0)) == []


def test_items_are_made_by_another_thread() -> None:
    (name,) = prefetch((threading.current_thread().name for _ in range(1)), 1)
    assert name.startswith("bleep_sc-prefetch")


def test_what_goes_wrong_is_raised_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield from range(2)
        msg = "torn"
        raise OSError(msg)

    seen: list[int] = []
    with pytest.raises(OSError, match="torn"):
        seen.extend(number for number in prefetch(items(), 3))
    out = prefetch(items(), 3)
    assert [next(out), next(out)] == [0, 1]
    with pytest.raises(OSError, match="torn"):
        next(out)
    assert threads() == []


def test_no_thread_is_left_by_who_stops_early() -> None:
    for number in prefetch(iter(range(100)), 100):
        if number == 3:
            break
    assert threads() == []
    out = prefetch(iter(range(100)), 100)
    next(out)
    assert threads() != []
    out.close()
    assert threads() == []


def test_a_cpu_is_fed_as_it_comes() -> None:
    items = [torch.zeros(1), torch.ones(1)]
    fed = list(feed(items, 2, torch.device("cpu")))
    assert all(one is other for one, other in zip(fed, items, strict=True))
    assert threads() == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_is_fed_from_pinned_memory() -> None:
    items = [torch.zeros(2), torch.ones(2)]
    fed = list(feed(items, 2, torch.device("cuda")))
    assert all(tensor.is_pinned() for tensor in fed)
    assert torch.equal(torch.stack(fed), torch.stack(items))
