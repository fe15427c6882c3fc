"""Train several small models at once, each on a thread of its own, and end all of them where one is interrupted."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import ContextVar, copy_context
from threading import Event, current_thread, main_thread
from typing import Any

from bleep_sc.models.train.engine import Callback, L
from bleep_sc.models.train.randomness import borrowed_random_state

Watch = Callable[[Iterable[Any]], Iterable[Any]]

_END: ContextVar[Event | None] = ContextVar("bleep_sc.models.train.at_once", default=None)
"""The event that ends the trainings at once of which this thread's is one."""

_SECONDS_BETWEEN_LOOKS = 0.2
"""How long to wait before Ctrl-C is looked for: not on every system does it end a wait."""


class EndedTogether(BaseException):
    """A training has ended because another at the same time has failed, or was interrupted."""


class EndTogether(Callback):
    """A callback that ends a training at its next batch once the others at the same time are to end."""

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Leave the training by an exception, as an interruption would."""
        end = _END.get()
        if end is not None and end.is_set():
            raise EndedTogether


def at_once(jobs: Sequence[Callable[[], Any]], *, n_threads: int, watch: Watch = iter) -> list[Any]:
    """Do jobs, as many at once as there are threads, and return their results in the order of the jobs.

    A job may train networks whose steps take milliseconds: torch releases Python's lock while it computes. It must
    compute on one thread, and draw from no random state that threads share. Settings hold in each job as they do here.
    Where a job fails, or Ctrl-C comes, jobs that train end at their next batch and others do not begin.

    `watch` wraps the loop that waits for one result after the other, as a progress bar does.
    """
    if n_threads == 1 or current_thread() is not main_thread():
        # threads of the user's own train one after another: what libraries set for a while holds for all of them
        with borrowed_random_state():
            return [job() for job in watch(jobs)]
    end = Event()
    with ThreadPoolExecutor(n_threads, thread_name_prefix="bleep_sc-at-once") as pool:
        started = [pool.submit(copy_context().run, _ending_with, end, job) for job in jobs]
        try:
            return [_result(job) for job in watch(started)]
        except EndedTogether:
            pass  # for the error of another, which is raised below
        except BaseException:
            end.set()
            raise
    raise next(error for error in map(Future.exception, started) if not isinstance(error, EndedTogether | None))


def _result(job: "Future[Any]") -> Any:
    while not job.done():
        wait([job], timeout=_SECONDS_BETWEEN_LOOKS)
    return job.result()


def _ending_with(end: Event, job: Callable[[], Any]) -> Any:
    if end.is_set():
        raise EndedTogether
    _END.set(end)
    try:
        return job()
    except BaseException:
        end.set()
        raise
