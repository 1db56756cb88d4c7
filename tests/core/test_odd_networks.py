"""Networks at the edge of what there may be: no body, no tasks, hundreds of tasks; files that another encoder wrote."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.handmade import U8, linear, requantization
from tsn_hw.app.cli.main import main
from tsn_hw.app.report import costs
from tsn_hw.app.report.memory_map import LayerMap, owner_picture
from tsn_hw.core import artifact, container
from tsn_hw.core.layers import Linear
from tsn_hw.core.memory import pack_fields
from tsn_hw.core.network import UNUSED, Bank, BankLayer, PackedNetwork, Step, Task
from tsn_hw.core.parts import Requantization

HEADS_ALONE = linear([[1, 2, 0], [0, 1, 2]], requantization(None, channels=2), U8, head=False)
NO_TASKS = PackedNetwork((3,), U8, (), (Bank(()),), ())
Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command that must succeed; returns what it prints."""

    def call(*arguments: object) -> str:
        assert main([str(argument) for argument in arguments]) == 0
        return capsys.readouterr().out

    return call


def saved(net: PackedNetwork, folder: Path) -> Path:
    artifact.save(net, folder / "net.tsn")
    return folder / "net.tsn"


def test_a_network_without_body_is_shown_with_shares_of_nothing(run: Run, tmp_path: Path) -> None:
    path = saved(HEADS_ALONE, tmp_path)
    assert "body codes         0          -\n" in run("show", path)
    sizes = json.loads(run("show", path, "--json"), parse_constant=pytest.fail)
    assert (sizes["body_percent"], sizes["replay_percent"], sizes["tasks"][0]["used"]) == (0, 0, 0)


@pytest.mark.parametrize(
    "command", [["cost", "--device", "xc7z020"], ["report", "-o", "page.html"], ["check"], ["onnx", "-o", "graphs"]]
)
def test_a_network_without_body_goes_through_every_command(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(HEADS_ALONE, tmp_path)
    assert run(command[0], "net.tsn", *command[1:])


@pytest.mark.parametrize("command", [["cost", "--device", "xc7z020"], ["report"], ["hls", "-o", "hls"]])
def test_a_network_without_tasks_is_no_hardware(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert main([command[0], str(saved(NO_TASKS, tmp_path)), *command[1:]]) == 2
    assert capsys.readouterr().err == "tsn-hw: the network has no tasks\n"


def test_show_counts_the_file_not_what_we_would_write(run: Run, tmp_path: Path) -> None:
    """An encoder that writes every mask plainly is as good as ours; its files are larger."""
    path = saved(linear(np.ones((2, 40)), requantization(None, channels=2), U8, head=False), tmp_path)
    header, parts, _ = artifact._open(path.read_bytes())
    plain = bytes([0]) + pack_fields(np.ones(80), 1)
    assert len(plain) == 11
    assert parts["bank0/fc/masks"] == b"\1\1"  # our choice
    parts["bank0/fc/masks"] = plain
    path.write_bytes(container.pack(header, list(parts.values())))
    sizes = json.loads(run("show", path, "--json"))
    assert sizes["file_bits"] == 8 * path.stat().st_size
    assert sizes["layers"][0]["masks_bits"] == 88


def many_tasks(count: int, side: int = 17) -> PackedNetwork:
    """A body of one layer, in which task i owns weight i, and a head of one class a task."""
    one = Requantization(np.ones(1, np.int64), np.zeros(1, np.int64), 0, None)
    body = Requantization(np.ones(side, np.int64), np.zeros(side, np.int64), 0, U8)
    layers = (Linear("fc", side, side), *(Linear(f"head{task}", side, 1, (0,)) for task in range(count)))
    owner = np.full((side, side), UNUSED, np.int16)
    owner.flat[:count] = np.arange(count)
    book, none = np.array([1]), np.zeros(0, np.int64)
    first = np.arange(side)[None] == 0
    words = [BankLayer(owner, np.zeros((side, side), np.uint8), (book,) * count, 8, 0)]
    tasks = []
    for task in range(count):
        books = (none,) * task + (book,) + (none,) * (count - task - 1)
        words.append(BankLayer(np.where(first, task, UNUSED), np.zeros((1, side), np.uint8), books, 8, 0))
        steps: list[Any] = [None] * len(layers)
        steps[0], steps[1 + task] = Step(owner == task, body), Step(first, one)
        tasks.append(Task(f"task{task}", 0, ("only",), tuple(steps)))
    return PackedNetwork((side,), U8, layers, (Bank(tuple(words)),), tuple(tasks))


def test_a_report_of_256_tasks_groups_them(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "MOST_STAGES", 2)  # the time of each grows with the square of the tasks
    run("report", saved(many_tasks(256), tmp_path), "-o", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "The file as it was after 2 of 256 tasks, by section." in page
    assert "Who reads whose weights is shown of at most 64 tasks." in page
    assert len(page) < 180_000


@pytest.mark.parametrize("owners", [1, 255, 256, 4096])
def test_a_map_of_any_number_of_owners_has_a_palette_of_256(owners: int) -> None:
    plane = np.arange(-1, owners)[None].astype(np.int64)
    assert owner_picture(LayerMap(0, "fc", plane, plane), owners).startswith("data:image/png;base64,")
