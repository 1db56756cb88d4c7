"""Where the work of a sweep is done: processes of this machine (joblib), or the workers of a Dask cluster.

An engine calls one function of this package on many arguments and gives results as they are finished, each with the
number of its arguments. Results that were given are not asked for again; everything else about order is left open.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from joblib import Parallel, delayed

from tsn_hw.core.errors import EngineError

T = TypeVar("T")
Engine = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], Iterator[tuple[int, Any]]]
"""(function, arguments of every call) -> (number of the call, its result), as they come."""

CONNECT_SECONDS = 20
KEPT = "what is finished is kept, the same command goes on from there"


def require_package(name: str, why: str) -> None:
    """EngineError if a package that sweeps may use is not installed."""
    if importlib.util.find_spec(name) is None:
        raise EngineError(f"{why}: pip install 'tsn-hw[sweep]'")


def numbered(function: Callable[..., T], number: int, arguments: tuple[Any, ...]) -> tuple[int, T]:
    """A result with its number."""
    return number, function(*arguments)


def end_with(parent: int) -> None:
    """End this process when its parent has: a worker of a killed parent would never end.

    Workers begin with this, before they have work: the parent may be killed while they start.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def processes(jobs: int) -> Engine:
    """An engine of so many processes of this machine; 1 works in this one."""

    def run(function: Callable[..., T], calls: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, T]]:
        # A worker that has grown by 300 MB is replaced by joblib, without loss: that need not worry anyone.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs were given", UserWarning)
        parallel = Parallel(jobs, "loky", "generator_unordered", initializer=end_with, initargs=(os.getpid(),))
        tasks = (delayed(numbered)(function, number, call) for number, call in enumerate(calls))
        try:
            yield from parallel(tasks)
        except BrokenProcessPool as error:
            raise EngineError(f"a worker process was killed, perhaps for memory (try fewer --jobs); {KEPT}") from error

    return run


def dask_cluster(scheduler: str) -> Engine:
    """An engine of the workers of a Dask scheduler, "tcp://host:port"; EngineError if there is none."""
    require_package("distributed", "--engine dask needs distributed")
    from distributed import Client, as_completed
    from distributed.scheduler import KilledWorker

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what concerns the user is raised

    def run(function: Callable[..., T], calls: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, T]]:
        if not calls:
            return
        try:
            client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise EngineError(f"no Dask scheduler answers at {scheduler!r}: {error}") from error
        with client:
            try:
                client.wait_for_workers(1, timeout=CONNECT_SECONDS)
            except TimeoutError as error:
                raise EngineError(f"the Dask scheduler at {scheduler!r} has no workers") from error
            futures = [client.submit(numbered, function, i, call, pure=False) for i, call in enumerate(calls)]
            try:
                for future, result in as_completed(futures, loop=client.loop, with_results=True):
                    if future.cancelled():
                        raise EngineError(f"the Dask scheduler at {scheduler!r} went away; {KEPT}")
                    yield result
            except KilledWorker as error:
                raise EngineError(f"a point killed every worker that tried it; {KEPT}") from error

    return run
