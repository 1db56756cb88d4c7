"""Long work says on standard error how far it is, wherever that goes; short work and --quiet say nothing."""

import io
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import tsn_hw.learn.progress
from tests.helpers.networks import Recipe, random_network
from tsn_hw.app.cli.main import main
from tsn_hw.core import artifact
from tsn_hw.learn.progress import LOG, progress, stage


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes a hundredth of a second takes long."""
    monkeypatch.setattr(tsn_hw.learn.progress, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(tsn_hw.learn.progress, "EVERY_SECONDS", 0.01)


@pytest.fixture
def listening() -> Iterator[None]:
    LOG.setLevel(logging.INFO)
    yield
    LOG.setLevel(logging.NOTSET)


@pytest.mark.usefixtures("hurried", "listening")
def test_without_a_terminal_a_line_now_and_then_says_how_far_it_is(caplog: pytest.LogCaptureFixture) -> None:
    for _ in progress(range(3), "points"):
        time.sleep(0.1)
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if not re.fullmatch(r"points: [0-2] of 3, 0 s", line)] == []
    assert {line[:13] for line in lines} == {"points: 0 of 3"[:13], "points: 1 of 3"[:13], "points: 2 of 3"[:13]}


@pytest.mark.usefixtures("hurried", "listening")
def test_of_stages_within_stages_the_innermost_tells(caplog: pytest.LogCaptureFixture) -> None:
    with stage("outer"), stage("inner"):
        time.sleep(0.1)
    assert {record.getMessage() for record in caplog.records} == {"inner: 0 s"}


@pytest.mark.usefixtures("hurried", "listening")
def test_within_a_quiet_stage_nothing_tells(caplog: pytest.LogCaptureFixture) -> None:
    with stage("outer", quiet=True), stage("inner"), stage("innermost"):
        time.sleep(0.1)
    assert caplog.records == []
    with stage("later"):
        time.sleep(0.1)
    assert {record.getMessage() for record in caplog.records} == {"later: 0 s"}


@pytest.mark.usefixtures("listening")
def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with stage("epochs", 4, 1) as told:
        told.advance("loss=0.5")
    assert "epochs:  25%" in terminal.getvalue()


@pytest.mark.usefixtures("hurried")
def test_whoever_does_not_ask_hears_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(iter([1, 2]), "points")) == [1, 2]
    with stage("work"):
        time.sleep(0.05)
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("hurried")
def test_every_command_tells_and_is_silent_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact.save(random_network(Recipe(kind="conv", tasks=3, seed=5)), tmp_path / "net.tsn")
    command = ["check", str(tmp_path / "net.tsn")]
    assert main(command) in (0, 1)
    text, error = capsys.readouterr()
    assert error
    assert [line for line in error.splitlines() if not re.fullmatch(r"tsn-hw: check: \d+ s", line)] == []
    assert main([*command, "--quiet"]) in (0, 1)
    assert capsys.readouterr() == (text, "")
