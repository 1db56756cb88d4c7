"""RTL and HLS projects that are exported again and killed at random moments: ``verify_kills.py [KILLS]``, 200 of each.

After every kill the folder must be the old project or the new one, byte for byte, with the files of a user in it; after
the next export nothing hidden may lie beside it but what another put there.
"""

import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from nets import random_cnn

from export import write_hls
from export.rtl.project import write_rtl
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.hardware.pipeline import accelerator, unit_names

THEIRS = {"notes.txt": b"mine", "rtl/log/run.txt": b"mine", "build/out.o": b"mine"}
FOLDINGS = Folding(1, 1), Folding(2, 1)


def projects(folder: Path, kind: str) -> list[Callable[[], None]]:
    """Two projects of one network, to be written into a folder in turn."""
    net = random_cnn()
    written = []
    for folding in FOLDINGS:
        units = {name: UnitSettings(folding if name == "head" else Folding(1)) for name in unit_names(net)}
        made = accelerator(net, HardwareSettings(units))
        written.append(
            partial(write_rtl, made, folder) if kind == "rtl" else partial(write_hls, made, folder, golden=[])
        )
    return written


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def killed(write: Callable[[], None], seconds: float) -> None:
    """Let a process write, and kill it when this time has passed."""
    child = os.fork()
    if child == 0:
        write()
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def main(kind: str, kills: int) -> int:
    """How many kills left something wrong."""
    rng, wrong, kept = random.Random(0), 0, {"old": 0, "new": 0}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / kind
        write = projects(folder, kind)
        write[1]()
        for name, data in THEIRS.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        (folder.parent / f".{kind}.mine").mkdir()
        start = time.perf_counter()
        write[0]()
        seconds, states = time.perf_counter() - start, [content(folder)]
        write[1]()
        states.append(content(folder))
        for number in range(kills):
            killed(write[number % 2], rng.uniform(0, 1.2 * seconds))
            found = content(folder)
            is_right = found in states
            kept["new" if found == states[number % 2] else "old"] += is_right
            write[number % 2]()
            beside = sorted(path.name for path in folder.parent.iterdir())
            wrong += not (is_right and content(folder) == states[number % 2] and beside == [f".{kind}.mine", kind])
    print(
        f"{kind}: {kills} kills within {1e3 * seconds:.0f} ms; then {kept['old']} old, {kept['new']} new; {wrong} wrong"
    )
    return wrong


sys.exit(sum(main(kind, int((sys.argv[1:] or ["200"])[0])) for kind in ("rtl", "hls")) > 0)
