from collections.abc import Callable, Iterator

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def check_show(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`check_show(draw)` says that a plot is shown unless it is returned, or told otherwise."""

    def check(draw: Callable[..., Figure | None]) -> None:
        shown: list[bool] = []
        monkeypatch.setattr(plt, "show", lambda: shown.append(True))
        assert draw() is None
        assert len(shown) == 1
        assert draw(show=False) is None
        assert isinstance(draw(return_fig=True), Figure)
        assert len(shown) == 1
        assert isinstance(draw(show=True, return_fig=True), Figure)
        assert len(shown) == 2

    return check


@pytest.fixture
def check_ax(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`check_ax(draw)` says that a plot goes into the user's axes, without showing them before all is drawn."""

    def check(draw: Callable[..., Figure | None]) -> None:
        monkeypatch.setattr(plt, "show", lambda: pytest.fail("shown"))
        fig, (left, right) = plt.subplots(1, 2)
        before = plt.get_fignums()
        assert draw(ax=right) is None
        assert right.get_lines() or right.collections
        assert not left.get_lines()
        assert not left.collections
        assert draw(ax=left, return_fig=True) is fig
        assert plt.get_fignums() == before, "a figure of its own was made"

    return check
