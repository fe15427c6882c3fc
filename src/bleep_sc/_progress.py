from collections.abc import Iterable
from typing import TypeVar

from bleep_sc._settings import settings

T = TypeVar("T")


def progress(items: Iterable[T], *, desc: str, total: int | None = None, show: bool | None = None) -> Iterable[T]:
    """Iterate with a progress bar; `show=None` asks the settings."""
    if not (settings.progress_bar if show is None else show):
        return items
    from tqdm.auto import tqdm

    return tqdm(items, desc=desc, total=total, leave=False)
