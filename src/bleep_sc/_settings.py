import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from types import MappingProxyType
from typing import Any, Literal, get_args

from bleep_sc._checks import check_choice, check_int, check_number
from bleep_sc._logging import logger

Precision = Literal["auto", "32", "16-mixed", "bf16-mixed"]
Verbosity = Literal["error", "warning", "info", "debug"]

_NAMES = ("device", "precision", "progress_bar", "memory", "threads", "verbosity")

_OVERRIDES: ContextVar[Mapping[str, Any]] = ContextVar("bleep_sc.settings", default=MappingProxyType({}))
"""Settings that hold in this thread alone, for the length of its ``with`` blocks."""


class Settings:
    """Settings of a session: where to compute, on how many cores and in how much memory, and which messages to show.

    The only instance is ``bleep_sc.settings``. An argument of the same name overrides the setting for one call.

    An assigned value holds for the whole process. A value set by :meth:`override` holds only in the thread that entered
    the ``with`` block. It does not hold in other threads, not even in threads started within the block. `verbosity` is
    the exception. It is the level of one logger and holds for all threads. The block that was entered last sets it.

    Examples
    --------
    >>> import bleep_sc as bl
    >>> bl.settings.progress_bar = False
    >>> with bl.settings.override(device="cpu", progress_bar=True):
    ...     bl.settings.device
    'cpu'
    >>> bl.settings.progress_bar = True
    """

    def __init__(self) -> None:
        self._device = "auto"
        self._precision: Precision = "auto"
        self._progress_bar = True
        self._memory = 256.0
        self._threads: int | None = None
        self._levels: list[tuple[object, int]] = []
        self._lock = Lock()
        self.verbosity = "info"

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in _NAMES:  # a misspelt one would be without effect
            msg = f"`settings` has no {name!r}; there is {', '.join(map(repr, _NAMES))}."
            raise AttributeError(msg)
        super().__setattr__(name, value)

    @property
    def device(self) -> str:
        """Device of training and embedding: ``"auto"`` (CUDA, else MPS, else CPU) or any device name of torch."""
        return self._now("device")

    @device.setter
    def device(self, value: str) -> None:
        if not isinstance(value, str) or not value:
            msg = f"`settings.device` must be 'auto' or a torch device such as 'cpu' or 'cuda:0', found {value!r}."
            raise ValueError(msg)
        self._set("device", value)

    @property
    def precision(self) -> Precision:
        """Number format of training and embedding: ``"auto"`` is bfloat16 where a CUDA device has it, else float32."""
        return self._now("precision")

    @precision.setter
    def precision(self, value: Precision) -> None:
        check_choice("settings.precision", value, get_args(Precision))
        self._set("precision", value)

    @property
    def progress_bar(self) -> bool:
        """Whether work that takes more than a second or two shows a progress bar."""
        return self._now("progress_bar")

    @progress_bar.setter
    def progress_bar(self, value: bool) -> None:
        if not isinstance(value, bool):
            msg = f"`settings.progress_bar` must be True or False, found {value!r}."
            raise ValueError(msg)
        self._set("progress_bar", value)

    @property
    def memory(self) -> float:
        """Working memory in MB that a step may use beyond its inputs and results. More memory is seldom faster."""
        return self._now("memory")

    @memory.setter
    def memory(self, value: float) -> None:
        self._set("memory", check_number("settings.memory", value, minimum=1))

    @property
    def threads(self) -> int | None:
        """The most cores to compute on; None: as many as this process may use, by affinity, quota and scheduler."""
        return self._now("threads")

    @threads.setter
    def threads(self, value: int | None) -> None:
        self._set("threads", None if value is None else check_int("settings.threads", value))

    @property
    def verbosity(self) -> Verbosity:
        """Which messages are shown: ``"error"``, ``"warning"``, ``"info"`` or ``"debug"``."""
        name: Any = logging.getLevelName(logger.level).lower()
        return name

    @verbosity.setter
    def verbosity(self, value: Verbosity) -> None:
        check_choice("settings.verbosity", value, get_args(Verbosity))
        logger.setLevel(value.upper())

    @contextmanager
    def override(self, **values: Any) -> Iterator[None]:
        """Set some settings for the length of a ``with`` block, in this thread."""
        for name in values:
            check_choice("settings.override", name, _NAMES)
        before, block = _OVERRIDES.get(), object()
        ours = [name for name in values if name != "verbosity"]
        _OVERRIDES.set({**before, **{name: getattr(self, name) for name in ours}})
        if "verbosity" in values:
            with self._lock:
                self._levels.append((block, logger.level))
        try:
            for name, value in values.items():
                setattr(self, name, value)
            yield
        finally:
            others = {name: value for name, value in _OVERRIDES.get().items() if name not in ours}
            _OVERRIDES.set({**others, **{name: before[name] for name in ours if name in before}})
            if "verbosity" in values:
                with self._lock:
                    self._leave(block)

    def _now(self, name: str) -> Any:
        return _OVERRIDES.get().get(name, getattr(self, f"_{name}"))

    def _set(self, name: str, value: Any) -> None:
        """Set a value for the current ``with`` block where that has overridden it, else for the process."""
        overrides = _OVERRIDES.get()
        if name in overrides:
            _OVERRIDES.set({**overrides, name: value})
        else:
            setattr(self, f"_{name}", value)

    def _leave(self, block: object) -> None:
        """Go back to the log level from before a block; threads may leave blocks in another order than they entered."""
        place = next(i for i, (entered, _) in enumerate(self._levels) if entered is block)
        level = self._levels.pop(place)[1]
        if place == len(self._levels):
            logger.setLevel(level)
        else:  # the block entered next still holds, and goes back to what was before both
            self._levels[place] = (self._levels[place][0], level)

    def __repr__(self) -> str:
        return (
            f"Settings(device={self.device!r}, precision={self.precision!r}, "
            f"progress_bar={self.progress_bar!r}, memory={self.memory!r}, threads={self.threads!r}, "
            f"verbosity={self.verbosity!r})"
        )


settings = Settings()
