"""One process writes into a folder at a time, whatever becomes of the others."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.sweeping import sweep_file
from tests.helpers.tiny_run import TINY_TOML, copied_run
from tsn_hw.app.cli.main import main
from tsn_hw.core.errors import FileError
from tsn_hw.core.locks import LOCK, lock_of, sole_writer

HOLD = """
import sys
from pathlib import Path
from tsn_hw.core.locks import sole_writer

with sole_writer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(lock: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a lock until it is told to end."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdin=pipe, stdout=pipe, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


def test_who_holds_a_folder_is_named_and_the_lock_goes_with_it(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path / LOCK) as process:
        with pytest.raises(FileError) as error, sole_writer(tmp_path / LOCK):
            pass
        start, end = (
            f"{tmp_path}: process {process.pid} on {os.uname().nodename}, since ",
            " writes here; wait until it ends",
        )
        assert str(error.value).startswith(start)
        assert str(error.value).endswith(end)
    assert list(tmp_path.iterdir()) == []
    with sole_writer(tmp_path / LOCK):
        pass


def test_a_killed_process_holds_nothing_although_its_file_is_there(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path / LOCK) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / LOCK).exists()
    with sole_writer(tmp_path / LOCK):
        pass
    assert list(tmp_path.iterdir()) == []


def test_who_holds_a_lock_may_ask_again_and_keeps_it_until_the_end(tmp_path: Path) -> None:
    with sole_writer(tmp_path / LOCK):
        with sole_writer(tmp_path / LOCK):
            pass
        assert (tmp_path / LOCK).exists()
    assert not (tmp_path / LOCK).exists()


def test_a_lock_of_a_file_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    with (
        held_elsewhere(lock_of(file)),
        pytest.raises(FileError, match=f"^{file}: process "),
        sole_writer(lock_of(file)),
    ):
        pass


def test_a_lock_is_never_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / LOCK).symlink_to(tmp_path / "mine")
    with pytest.raises(FileError, match=f"^cannot write {tmp_path / LOCK}: "), sole_writer(tmp_path / LOCK):
        pass
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize(
    "command",
    [
        "train {toml} -o {run} --resume",
        "demo --out {run} --resume",
        "bench paper --preset {toml} -o {run} --tables 8",
        "sweep {sweep} -o {run} --jobs 1",
    ],
)
def test_every_command_that_writes_a_run_stops_before_a_folder_that_another_process_writes(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.toml").write_text(TINY_TOML)
    folder = copied_run(tmp_path / "run")
    places = {"toml": tmp_path / "run.toml", "run": folder, "sweep": sweep_file(tmp_path)}
    with held_elsewhere(folder / LOCK) as process:
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        capsys.readouterr()
        assert main([part.format(**places) for part in command.split()]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"tsn-hw: {folder}: process {process.pid} on ")
        assert error.count("\n") == 1
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
