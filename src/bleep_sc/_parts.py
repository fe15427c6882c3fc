"""Work that falls into parts, on the dask scheduler or cluster that the user has started."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from bleep_sc._progress import progress
from bleep_sc._settings import settings

_AT_ONCE = 8


def has_scheduler() -> bool:
    """Whether the user has started a cluster, or set a scheduler in dask's configuration."""
    from dask.base import get_scheduler

    return get_scheduler() is not None


def over_parts(
    job: Callable[[Any], Any],
    parts: Sequence[Any],
    *,
    combine: Callable[[Any, Any], Any] | None = None,
    desc: str = "Parts",
    show: bool = False,
) -> list[Any]:
    """Do a job on each part, one after another where the user has started no scheduler.

    Parameters
    ----------
    job
        Sent to each worker of a cluster once, with all that it holds.
    parts
        What it is called with.
    combine
        Makes one result of two, on the workers; the list of results is then that of the one.
    desc, show
        Of a progress bar where there is no scheduler: those have bars and pages of their own.
    """
    if not has_scheduler():
        results = [job(part) for part in progress(parts, desc=desc, show=show and len(parts) > 1)]
        return results if combine is None else [reduce(combine, results)]

    import dask
    from dask.base import get_scheduler

    scheduler = get_scheduler()
    client = getattr(scheduler, "__self__", None)
    if client is None:
        shared = dask.delayed(job, pure=False, traverse=False)
    else:  # in the graph it would travel through the scheduler, and again with each task
        shared = client.scatter(job, broadcast=True, hash=False)
    one, several = dask.delayed(_one, pure=False), dask.delayed(_combined, pure=False)
    tasks = [one(shared, part, settings.memory) for part in parts]
    while combine is not None and len(tasks) > 1:
        tasks = [several(combine, tasks[i : i + _AT_ONCE]) for i in range(0, len(tasks), _AT_ONCE)]
    return list(dask.compute(*tasks, scheduler=scheduler))


def _one(job: Callable[[Any], Any], part: Any, memory: float) -> Any:
    with settings.override(memory=memory):  # a worker begins with the default
        return job(part)


def _combined(combine: Callable[[Any, Any], Any], results: list[Any]) -> Any:
    return reduce(combine, results)
