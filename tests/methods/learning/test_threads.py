"""Small networks train on one thread, and leave Torch's number of threads as it was."""

import pytest
import torch
from conftest import make_sections

import bleep_sc as bl
from bleep_sc.methods.hybrid import component_models


@pytest.mark.slow
def test_heads_train_on_one_thread_whatever_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the number of threads decides nothing of what they learn."""
    seen = []
    train = component_models.train
    monkeypatch.setattr(
        component_models, "train", lambda *a, **k: seen.append(torch.get_num_threads()) or train(*a, **k)
    )
    before = torch.get_num_threads()
    weights = []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            adata = make_sections()
            bl.tl.fit(adata, max_epochs=2)
            weights.append(adata.uns["bleep"]["history"]["train_loss"])
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}
    assert weights[0].tolist() == weights[1].tolist()
