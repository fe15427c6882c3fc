import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import bleep_sc as bl
from bleep_sc._logging import logger


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real sections: `$BLEEP_SC_DATA`, else `../shared/data` beside the checkout."""
    folder = Path(os.environ.get("BLEEP_SC_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (folder / "her2st" / "C6.h5ad").exists():
        reason = f"the real sections are not at {folder}: set BLEEP_SC_DATA to the folder that holds her2st/"
        if os.environ.get("BLEEP_SC_REQUIRE_DATA"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """No progress bars in test output; every test starts from the default settings."""
    with bl.settings.override(progress_bar=False, device="cpu", precision="auto", verbosity="info"):
        yield


@pytest.fixture(autouse=True)
def global_random_state_untouched() -> Iterator[None]:
    """No function may move NumPy's global random state."""
    before = np.random.get_state()  # noqa: NPY002
    yield
    after = np.random.get_state()  # noqa: NPY002
    assert np.array_equal(before[1], after[1]), "the test moved NumPy's global random state"
    assert before[2:] == after[2:], "the test moved NumPy's global random state"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What bleep_sc logs; its logger does not propagate, so pytest's handler is attached to it."""
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)
