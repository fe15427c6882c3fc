import contextlib
import logging
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import pandas as pd

_PACKAGE = str(Path(__file__).parent)


class _Handler(logging.StreamHandler):
    """Writes to whatever the stream is at that moment: notebooks and test runners replace it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stdout if in_notebook() else sys.stderr

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line of its own, above a progress bar where one is being drawn."""
        told: _Told | None = getattr(record, _TOLD, None)
        if told is not None and in_notebook():
            self._show(told)
        else:
            self._write(self.format(record))

    def _show(self, told: "_Told") -> None:
        from IPython.display import display

        self._write(told.heading)
        display(told.table)
        if told.notes:
            self._write("\n".join(told.notes))

    def _write(self, text: str) -> None:
        tqdm = sys.modules.get("tqdm")
        if tqdm is None:
            self.stream.write(text + self.terminator)
            self.flush()
        else:
            tqdm.tqdm.write(text, file=self.stream)


def in_notebook() -> bool:
    """Whether a notebook runs this, which shows stderr on red: what is no error goes to stdout there, as in scanpy."""
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_shell is not None and getattr(get_shell(), "kernel", None) is not None


def _make_logger() -> logging.Logger:
    logger = logging.getLogger("bleep_sc")
    if not logger.handlers:
        handler = _Handler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
    return logger


logger = _make_logger()

_TOLD = "bleep_sc_told"
"""The attribute of a log record that holds its table."""


@dataclass(frozen=True)
class _Told:
    """A table with what stands above and below it."""

    heading: str
    table: "pd.DataFrame"
    notes: tuple[str, ...]


def log_table(
    heading: str, table: "pd.DataFrame", *, widths: Sequence[int] | None = None, notes: Sequence[str] = ()
) -> None:
    """Log a table of text: rich in a notebook, aligned text elsewhere.

    Parameters
    ----------
    heading
        What stands above it.
    table
        The cells as they are to be read. The name of its index heads the column of row names.
    widths
        Characters of the row names and of each column in aligned text; as pandas aligns it where left out.
    notes
        Lines below it.
    """
    text = table.to_string() if widths is None else _aligned(table, widths)
    logger.info("%s", "\n".join([heading, text, *notes]), extra={_TOLD: _Told(heading, table, tuple(notes))})


def _aligned(table: "pd.DataFrame", widths: Sequence[int]) -> str:
    rows = [(table.index.name or "", *table.columns), *table.itertuples(name=None)]
    return "\n".join(
        f"{first:<{widths[0]}}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        for first, *cells in rows
    )


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the caller's code that led here, not at a line of this package or of what calls it back."""
    outermost, level, frame = 1, 1, sys._getframe()
    while frame.f_back is not None:
        file = frame.f_code.co_filename
        # a function of ours that a context manager decorates is called by the library's wrapper
        if file.startswith(_PACKAGE) or (file == contextlib.__file__ and outermost == level - 1):
            outermost = level
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=outermost + 1)
