"""The same sweep on a Dask cluster: a scheduler and workers of their own, of which one is killed at work."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.helpers.sweeping import RUN, assert_same_sweep, lines, sweep_file, sweep_into, sweep_process
from tests.helpers.tiny_run import finished_run
from tsn_hw.app.cli.main import main
from tsn_hw.app.sweep import engines
from tsn_hw.app.sweep.engines import dask_cluster
from tsn_hw.app.sweep.evaluate import Base, evaluate
from tsn_hw.core.errors import EngineError, FileError
from tsn_hw.learn.variants import Variant

pytest.importorskip("distributed")

VALUES = """
[values]
code_bits = [1, 2, 3, 4]
activation_bits = [4, 8]
qat_epochs = [0, 2]
"""
QUIET = ["--no-dashboard", "--host", "127.0.0.1"]


class Cluster:
    """A scheduler and its workers, each a process; killed at the end."""

    def __init__(self, folder: Path, stack: ExitStack, **environment: str) -> None:
        self.file, self.stack = folder / "scheduler.json", stack
        self.environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])} | environment
        self.scheduler = self.start("scheduler", "--port", "0")
        self.wait(self.file.is_file)
        self.address = json.loads(self.file.read_text())["address"]

    def start(self, kind: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--scheduler-file", str(self.file), *QUIET]
        process = subprocess.Popen([*command, *options], env=self.environment, stderr=subprocess.DEVNULL)
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process

    def worker(self) -> subprocess.Popen[bytes]:
        return self.start("worker", "--no-nanny", "--nthreads", "1")

    def wait(self, condition: object) -> None:
        end = time.monotonic() + 180
        while not condition():  # type: ignore[operator]
            assert time.monotonic() < end
            time.sleep(0.01)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(tmp_path_factory.mktemp("dask"), stack)


def test_a_worker_that_is_killed_at_work_costs_no_point_and_doubles_none(cluster: Cluster, tmp_path: Path) -> None:
    workers = [cluster.worker(), cluster.worker()]
    sweep_file(tmp_path / "dask", VALUES)
    sweep = sweep_process(tmp_path / "dask", "--engine", "dask", "--scheduler", cluster.address)
    results = tmp_path / "dask" / "out" / "results.jsonl"
    cluster.wait(lambda: results.is_file() and results.read_bytes().count(b"\n") >= 3)
    victim = psutil.Process(workers[0].pid)
    busy = victim.cpu_times().user
    cluster.wait(lambda: victim.cpu_times().user > busy + 0.1)  # it computes
    assert len(lines(tmp_path / "dask")) < 1 + 16 - 6
    workers[0].send_signal(signal.SIGKILL)
    assert sweep.wait(timeout=300) == 0
    assert workers[1].poll() is None
    sweep_into(tmp_path / "here", VALUES)
    assert_same_sweep(tmp_path / "dask", tmp_path / "here")
    assert len(lines(tmp_path / "dask")) == 1 + 16


def test_an_error_of_ours_on_a_worker_is_ours_here(cluster: Cluster, tmp_path: Path) -> None:
    base = Base(tmp_path / "nowhere", "0")
    with pytest.raises(FileError) as error:
        list(dask_cluster(cluster.address)(evaluate, [(base, [Variant((3, 5), 8)], None)]))
    assert str(error.value) == f"{tmp_path / 'nowhere'} is no training run: it has no settings.json"


def test_a_scheduler_that_does_not_answer_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sweep_file(tmp_path, VALUES, finished_run(RUN))
    monkeypatch.setattr(engines, "CONNECT_SECONDS", 1)
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        command = ["sweep", str(path), "-o", str(tmp_path / "out"), "--quiet", "--engine", "dask"]
        assert main([*command, "--scheduler", address]) == 2
        told = capsys.readouterr().err
        assert told.startswith(f"tsn-hw: no Dask scheduler answers at {address!r}: ")
        assert told.count("\n") == 1


def test_a_point_that_kills_every_worker_that_tries_it_is_told(tmp_path: Path) -> None:
    with ExitStack() as stack:
        cluster = Cluster(tmp_path, stack, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
        cluster.worker()
        with pytest.raises(EngineError) as error:
            list(dask_cluster(cluster.address)(os._exit, [(9,)]))
    assert str(error.value) == (
        "a point killed every worker that tried it; what is finished is kept, the same command goes on from there"
    )


def test_a_scheduler_that_goes_away_and_one_without_workers_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        cluster = Cluster(tmp_path, stack)
        monkeypatch.setattr(engines, "CONNECT_SECONDS", 2)
        with pytest.raises(EngineError) as error:
            list(dask_cluster(cluster.address)(time.sleep, [(0,)]))
        assert str(error.value) == f"the Dask scheduler at {cluster.address!r} has no workers"
        monkeypatch.undo()
        cluster.worker()
        results = dask_cluster(cluster.address)(time.sleep, [(0,), (600,)])
        assert next(results) == (0, None)
        cluster.scheduler.kill()
        with pytest.raises(EngineError, match="went away; what is finished is kept"):
            next(results)
