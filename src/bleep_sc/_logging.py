import logging
import sys
import warnings
from pathlib import Path
from typing import TextIO

_PACKAGE = str(Path(__file__).parent)


class _StderrHandler(logging.StreamHandler):
    """Writes to whatever `sys.stderr` is at that moment: notebooks and test runners replace it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line of its own, above a progress bar where one is being drawn."""
        tqdm = sys.modules.get("tqdm")
        if tqdm is None:
            super().emit(record)
        else:
            tqdm.tqdm.write(self.format(record), file=self.stream)


def _make_logger() -> logging.Logger:
    logger = logging.getLogger("bleep_sc")
    if not logger.handlers:
        handler = _StderrHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
    return logger


logger = _make_logger()


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the caller's code that led here, not at a line of this package or of what calls it back."""
    outermost, level, frame = 1, 1, sys._getframe()
    while frame.f_back is not None:
        if frame.f_code.co_filename.startswith(_PACKAGE):
            outermost = level
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=outermost + 1)
