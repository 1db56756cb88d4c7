"""Time of `tsn-hw cost` and `tsn-hw report` on a ResNet-18 of ten tasks, each as a process of its own.

python benchmarks/bench_report.py [width]      20 channels in the first stage unless given, as in the literature
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.bench_cost import TASKS, with_tasks
from benchmarks.nets import random_resnet18
from tsn_hw.core import artifact


def main(width: str = "20") -> None:
    net = with_tasks(random_resnet18(int(width)), TASKS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.tsn"
        artifact.save(net, path)
        for command in ("cost", "report"):
            start = time.perf_counter()
            line = [sys.executable, "-m", "tsn_hw.app.cli.main", command, str(path), "--device", "zu7ev"]
            done = subprocess.run(line, capture_output=True, text=True, check=True)
            print(f"tsn-hw {command} net.tsn --device zu7ev: {time.perf_counter() - start:.1f} s", flush=True)
            print(f"  {done.stdout.splitlines()[-1]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
