"""How far long work is, told on standard error: by a bar on a terminal, elsewhere by a line now and then.

It goes by the logger "tsn_hw" at level INFO: whoever uses the library hears nothing unless they ask for it. What takes
less than a few seconds says nothing.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

LOG = logging.getLogger("tsn_hw")
FIRST_SECONDS, EVERY_SECONDS = 5.0, 30.0
_OPEN: list[Stage] = []
"""Stages within stages; only the innermost tells."""

T = TypeVar("T")


@dataclass
class Stage:
    """Work that goes on: what it is, how many of its steps are done, if it has any, and how it goes."""

    what: str
    steps: int | None
    done: int
    quiet: bool = False
    bar: Any = None
    start: float = field(default_factory=time.monotonic)

    def advance(self, told: str = "") -> None:
        """One more step is done; ``told``: what there is to say of it."""
        self.done += 1
        if self.bar is not None:
            self.bar.set_postfix_str(told, refresh=False)
            self.bar.update()

    def tell(self) -> None:
        """A line for the log."""
        of = "" if self.steps is None else f" {self.done} of {self.steps},"
        LOG.info("%s:%s %.0f s", self.what, of, time.monotonic() - self.start)


@contextmanager
def stage(what: str, steps: int | None = None, done: int = 0, *, quiet: bool = False) -> Iterator[Stage]:
    """Tells what is being done once that has taken a while, and now and then that it still is.

    Within a quiet stage all are.

    >>> with stage("synthesis", steps=2) as told:
    ...     told.advance()
    >>> told.done
    1
    """
    told = Stage(what, steps, done, quiet or any(outer.quiet for outer in _OPEN))
    _OPEN.append(told)
    with ExitStack() as closing:
        closing.callback(_OPEN.remove, told)
        if not told.quiet and LOG.isEnabledFor(logging.INFO):
            if steps is not None and sys.stderr.isatty():
                from tqdm import tqdm  # the core needs it nowhere else

                told.bar = closing.enter_context(tqdm(desc=what, total=steps, initial=done, leave=False))
            else:
                over = threading.Event()
                thread = threading.Thread(target=_tell, args=(told, over), daemon=True)
                thread.start()
                closing.callback(thread.join)
                closing.callback(over.set)
        yield told


def _tell(told: Stage, over: threading.Event) -> None:
    wait = FIRST_SECONDS
    while not over.wait(wait):
        if told is _OPEN[-1]:
            told.tell()
        wait = EVERY_SECONDS


def progress(items: Iterable[T], what: str, steps: int | None = None, *, quiet: bool = False) -> Iterator[T]:
    """The items one after the other, while it is told how many are done.

    >>> list(progress("ab", "letters"))
    ['a', 'b']
    """
    with stage(what, len(items) if isinstance(items, Sized) else steps, quiet=quiet) as told:
        for item in items:
            yield item
            told.advance()
