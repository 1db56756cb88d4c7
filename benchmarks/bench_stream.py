"""Learning a long stream: what a task costs when many are learned already, over what the first ones cost.

    python benchmarks/bench_stream.py [tasks]

Permuted digits, 64-32, two epochs a task, so that little but the walk over earlier tasks is left; processor time, one
thread. What later tasks cost besides their training is told in seconds too.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
from dataclasses import replace

from tsn_hw.learn import Callbacks, RunOptions, Settings, load_data, permuted, train

FEW = 10
"""Tasks at either end of the stream, of which medians are taken; the first one also loads what all need."""


def main() -> None:
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    settings = Settings()
    settings = replace(
        settings,
        model=replace(settings.model, hidden=(32,)),
        train=replace(settings.train, epochs=2, threads=1, keep_ratio=0.1),
        quantize=replace(settings.quantize, min_bits=4, max_bits=4),  # else some tasks train on with few bits
        route=replace(settings.route, enabled=False),
    )
    ends = [time.process_time()]
    callbacks = Callbacks(on_task=lambda _: ends.append(time.process_time()))
    with tempfile.TemporaryDirectory() as folder:
        stream = permuted(load_data("digits"), tasks, seed=0, valid_share=0.1)
        train(None, stream, settings, folder, callbacks, RunOptions(quiet=True))
    seconds = [end - start for start, end in itertools.pairwise(ends)]
    first, last = (statistics.median(some) for some in (seconds[1 : FEW + 1], seconds[-FEW:]))
    sys.stdout.write(f"{tasks} tasks: {first:.2f} s at first, {last:.2f} s at last, {last / first:.2f} times\n")


if __name__ == "__main__":
    main()
