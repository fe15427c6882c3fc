"""Let signals do in training what they do elsewhere, although Lightning handles them in its own way."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from bleep_sc.models.train.engine import Callback, L, SIGTERMException


class OwnSigterm(Callback):
    """Let SIGTERM, which a cluster sends before it kills, end the process at once or call the user's handler.

    Lightning would finish the batch and leave by an exception, for which there may be no time.
    """

    def __init__(self) -> None:
        self._before = signal.getsignal(signal.SIGTERM)

    # Lightning sets its handler after all other hooks that come before the first epoch
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the user's handler, or the default one, back in place of Lightning's."""
        if not _in_main_thread() or self._before is None:
            return
        launcher = trainer.strategy.launcher
        alone = launcher is None or self._before is not signal.SIG_DFL
        signal.signal(signal.SIGTERM, self._before if alone else _end_all(launcher))


def _end_all(launcher: Any) -> Callable[[int, FrameType | None], None]:
    """Return a handler that ends the processes Lightning started, which would wait for this one, and then this one."""

    def end(number: int, frame: FrameType | None) -> None:
        launcher.kill(number)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    return end


def interruptible(run: Callable[[], None]) -> None:
    """Run a training, and raise KeyboardInterrupt on Ctrl-C; put the handlers of signals back afterwards.

    Lightning turns Ctrl-C into SystemExit and leaves SIGINT ignored. Before the first epoch it also leaves its own
    handler of SIGTERM.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        run()
    except (SystemExit, RuntimeError) as err:  # the latter where it has nothing yet that it could tidy up
        if isinstance(err.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from err
        # one that came before `OwnSigterm` had its turn
        if isinstance(err, SIGTERMException) and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.raise_signal(signal.SIGTERM)
        raise  # such as a SIGTERM handler's own
    finally:
        for number, handler in before.items():
            if _in_main_thread() and handler is not None:
                signal.signal(number, handler)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
