"""Compiled loops are kept for later processes where that can be."""

from pathlib import Path

import numba.core.caching
import pytest

from bleep_sc.models.encoders.color import blobs, blur, channels, otsu, statistics, texture
from bleep_sc.models.encoders.color.compilation import compiled


def test_without_a_folder_for_it_a_loop_is_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.core.caching.CompileResultCacheImpl, "_locator_classes", [])

    @compiled
    def double(x: int) -> int:
        return 2 * x

    assert double(4) == 8
    assert double.stats.cache_path is None


def test_a_compiled_function_calls_those_of_its_file_alone() -> None:
    """Else numba would run what it kept, though the other file has changed."""
    for module in (blobs, blur, channels, otsu, statistics, texture):
        for loop in vars(module).values():
            if not hasattr(loop, "py_func") or loop.__module__ != module.__name__:
                continue
            called = [vars(module)[name] for name in loop.py_func.__code__.co_names if name in vars(module)]
            files = {Path(other.py_func.__code__.co_filename).name for other in called if hasattr(other, "py_func")}
            assert files <= {f"{module.__name__.rpartition('.')[2]}.py"}, loop.py_func.__name__
