"""What the simulator borrows of its process while it computes: torch's settings of float kernels, and its threads.

This module loads no torch: it must be imported before a fork to know of it, which ``import sim`` does.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from functools import cache, partial
from types import TracebackType
from typing import Any

from tsn_hw.core.errors import EngineError


class _GlobalSettings:
    """Settings that all threads share: the first thread that computes sets them, the last one gives them back."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._threads = self._changes = 0
        self._give_back: list[Callable[[], object]] = []

    def take(self) -> int:
        """How often others had changed a setting under a computing thread until now."""
        with self.lock:
            self._set()
            self._threads += 1
            return self._changes

    def give_back(self, changes: int) -> bool:
        """Whether nobody has changed a setting since ``take`` gave so many changes."""
        with self.lock:
            self._set()
            self._threads -= 1
            if not self._threads:
                self.restore()
            return changes == self._changes

    def restore(self) -> None:
        while self._give_back:
            self._give_back.pop()()
        self._threads = 0

    def _set(self) -> None:
        """Set what is not as it must be, and note what it was: the newest value is the one that a user wants back."""
        set_nnpack, precisions = _switches()
        noted = len(self._give_back)
        (nnpack,) = set_nnpack(False)
        if nnpack:
            self._give_back.insert(0, partial(set_nnpack, nnpack))
        for each in precisions:
            if each.fp32_precision not in ("none", "ieee"):
                self._give_back.insert(0, partial(setattr, each, "fp32_precision", each.fp32_precision))
                each.fp32_precision = "ieee"
        self._changes += bool(self._threads and len(self._give_back) > noted)


@cache
def _switches() -> tuple[Callable[[bool], tuple[bool]], tuple[Any, ...]]:
    """What sets NNPACK and gives what it was; what holds the precision of products and of convolutions."""
    import torch

    backends: Any = torch.backends  # attributes that torch makes at run time, in a microsecond each
    return backends.nnpack.set_flags, (backends.mkldnn.matmul, backends.mkldnn.conv)


_GLOBAL = _GlobalSettings()
_lost_threads = False
"""Whether this process was forked from one that had torch loaded: the threads of torch's pools did not come along."""


def _in_forked_child() -> None:
    global _lost_threads
    _GLOBAL.lock.release()
    _GLOBAL.restore()  # the threads that computed did not come along either
    _lost_threads = "torch" in sys.modules


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_GLOBAL.lock.acquire, after_in_parent=_GLOBAL.lock.release, after_in_child=_in_forked_child
    )


class exact_floats:  # noqa: N801 (used like a function; one of contextlib's takes longer to enter than a small layer to run)
    """Float kernels that compute what IEEE 754 says, whatever torch is set to; the settings come back at the end.

    NNPACK's convolution is wrong far below 2**24; bfloat16, TF32 and autocast drop bits of the operands. NNPACK and
    precision are global to torch: other threads see them meanwhile, and where one changes them, what was computed is
    not to be trusted (EngineError). A forked child computes in one thread: torch would wait for its others without end.
    """

    def __enter__(self) -> None:
        import torch

        if _lost_threads and torch.get_num_threads() > 1:
            torch.set_num_threads(1)
        self._autocast = torch.is_autocast_enabled("cpu")
        self._changes = _GLOBAL.take()
        if self._autocast:
            torch.set_autocast_enabled("cpu", False)
        self._inference = torch.inference_mode()
        self._inference.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inference.__exit__(kind, error, trace)
        if self._autocast:
            import torch

            torch.set_autocast_enabled("cpu", True)
        if not _GLOBAL.give_back(self._changes) and error is None:
            raise EngineError(
                "simulator: another thread changed torch's settings (NNPACK, fp32_precision) while this one computed, "
                "so its integers may be wrong; change them before or after"
            )
