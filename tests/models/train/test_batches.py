import numpy as np
import pytest
import torch

from bleep_sc.models.train.batches import Batches


def make(**kwargs: object) -> tuple[np.ndarray, Batches]:
    images = np.arange(50, dtype=np.uint8).reshape(50, 1, 1, 1).repeat(3, axis=3)
    expression = np.arange(50, dtype=np.float32)[:, None]
    rows = np.arange(0, 50, 2)
    return rows, Batches(images, expression, rows, batch_size=10, **kwargs)  # type: ignore[arg-type]


def seen(batches: Batches) -> list[int]:
    return [int(value) for batch in batches for value in batch.expression[:, 0]]


def test_no_spot_is_left_out_and_batches_are_even() -> None:
    rows, batches = make(seed=0)
    assert sorted(seen(batches)) == rows.tolist()
    assert [len(batch) for batch in batches] == [9, 8, 8]
    assert len(batches) == 3


def test_image_and_expression_stay_together() -> None:
    _, batches = make(seed=0, augment=True)
    for batch in batches:
        assert batch.images[:, 0, 0, 0].tolist() == batch.expression[:, 0].tolist()
        assert batch.turns is not None
        assert len(batch.turns) == len(batch)


def test_an_epoch_depends_on_seed_and_epoch_alone() -> None:
    _, batches = make(seed=3)
    first, again = seen(batches), seen(batches)
    assert first == again
    batches.epoch = 1
    assert seen(batches) != first
    assert seen(make(seed=4)[1]) != first
    assert seen(make()[1]) == list(range(0, 50, 2))


def test_processes_divide_each_batch_evenly_and_in_order() -> None:
    _, batches = make(seed=0, augment=True)
    whole = list(batches)
    parts = []
    for rank in range(3):
        batches.divide(rank, 3)
        parts.append(list(batches))
    for number, batch in enumerate(whole):
        mine = [part[number] for part in parts]
        assert [len(part.expression) for part in mine] == ([3, 3, 3] if number == 0 else [3, 3, 2])
        assert all(len(part) == len(batch) for part in mine), "a part tells the size of the whole batch"
        assert sum(part.weight for part in mine) == pytest.approx(3)
        for name in ("images", "expression", "turns"):
            assert torch.equal(torch.cat([getattr(part, name) for part in mine]), getattr(batch, name))
