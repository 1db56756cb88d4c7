"""Work of a process that joblib takes for one that leaks; apart, because whoever does it imports this and no torch."""

import os
import time

GROWN: list[bytes] = []


def grow(_: int) -> int:
    """Keep 400 MB of every call but the first, and work longer than joblib waits to look; the process."""
    GROWN.append(bytes(b"1" * 400_000_000 if GROWN else b""))
    time.sleep(1.1)
    return os.getpid()
