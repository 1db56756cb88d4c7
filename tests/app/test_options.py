"""Every option of every command, walked as the signatures have them: at the ends of its range, beyond, with nonsense.

A command that is added comes along: it only needs its least arguments below. Training and synthesis are left out.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from cyclopts.argument import Argument

from export import write_onnx
from tests.helpers.networks import Recipe, random_network
from tests.helpers.tiny_run import TINY_TOML
from tsn_hw.app.cli.command import Number, path, task
from tsn_hw.app.cli.main import COMMANDS, app, main
from tsn_hw.core import artifact
from tsn_hw.core.errors import EngineError, TrainingError

LEAST = {
    "demo": "--out demo",
    "init": "new.toml",
    "train": "run.toml -o run",
    "show": "net.tsn",
    "onnx": "net.tsn -o graphs",
    "run": "task_00.onnx x.npy",
    "c": "net.tsn -o c --samples 1",
    "release": "net.tsn -o release",
    "check": "net.tsn",
    "hls": "net.tsn -o hls --samples 1",
    "cost": "net.tsn --device xc7z020",
    "memories": "net.tsn --folding folding.json -o memories --formats mem",
    "rtl": "net.tsn --folding folding.json -o rtl",
    "synth": "rtl --target ecp5",
    "board": "net.tsn --board ulx3s -o board",
    "calibrate": "-o mine.json --runs runs.jsonl",
    "gate": "net.tsn -o gated.tsn",
    "simulate": "net.tsn --task 0 --input x.npy",
    "sweep": "sweep.toml -o sweep",
    "report": "net.tsn",
    "page": "net.tsn",
    "verify": "net.tsn --samples 1",
    "bench": "paper --preset run.toml -o paper",
    "completion": "bash",
}
MOST_SECONDS = 30
NONSENSE = ["", "x", "-1", "nan", "1e999", "9" * 5000, "ü\udcff", "../..", "a" * 300]
TEXTS = [
    "xc7z020clg400-1",
    "xc7z020",
    "ecp5-25",
    "cpu",
    "meta",
    "fc0=integer",
    "integer",
    "1-8",
    "mem,hex",
    "tcp://h:1",
]
"""What some option takes as text."""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what commands read; the working directory."""
    monkeypatch.chdir(tmp_path)
    net = random_network(Recipe(kind="mlp", tasks=2, seed=14))
    artifact.save(net, "net.tsn")
    write_onnx(net, ".")
    np.save("x.npy", np.full((1, *net.input_shape), net.input.range[1], np.int64))
    Path("run.toml").write_text(TINY_TOML)
    Path("sweep.toml").write_text("train = 'run.toml'\n[values]\ncode_bits = [2]\n")
    assert main(["cost", "net.tsn", "--device", "xc7z020", "--save-folding", "folding.json"]) == 0
    assert main(["rtl", "net.tsn", "--folding", "folding.json", "-o", "rtl"]) == 0
    for user in ("learn.run.train", "app.learning.demo.train", "app.paper.bench.train", "app.paper.bench.train_floats"):
        monkeypatch.setattr(f"tsn_hw.{user}", refuse(TrainingError))
    monkeypatch.setattr("tsn_hw.app.sweep.run._bases", refuse(TrainingError))
    monkeypatch.setattr("tsn_hw.app.hardware.synth.synthesize", refuse(EngineError))
    monkeypatch.setattr("tsn_hw.app.hardware.board.make_bitstream", refuse(EngineError))
    monkeypatch.setattr("tsn_hw.app.hardware.calibrate.synthesize_trial", refuse(EngineError))
    return tmp_path


def refuse(error: type[Exception]) -> Callable[..., NoReturn]:
    def stop(*_: object, **__: object) -> NoReturn:
        raise error("this takes minutes")

    return stop


def options(command: str) -> list[Argument]:
    """All that a command takes by name, what every command takes included."""
    taken = [*app[command].assemble_argument_collection(), *app.meta.assemble_argument_collection()]
    return [argument for argument in taken if argument.parse and argument.name.startswith("--")]


def values(argument: Argument) -> Iterator[list[str]]:
    """What an option is given, one after the other."""
    if argument.is_flag():
        yield []
        return
    converter, choices = argument.parameter.converter, argument.get_choices()
    if isinstance(converter, Number):
        step = 1 if converter.kind is int else 1e-9
        ends = (converter.low, converter.high, converter.low - step, converter.high * 2 + step)
        yield from ([f"{end:.17g}"] for end in ends)
    elif choices:
        yield from ([choice] for choice in choices)
    elif converter is path:
        yield from (["net.tsn"], ["folding.json"], ["."], ["/dev/null/below"], ["nowhere"])
    elif converter is task:
        yield from (["1"], ["2"], ["task1"])
    else:
        assert converter is None, f"{argument.name}: a type without a range"
        assert argument.hint in (str, str | None, tuple[str, ...]), f"{argument.name}: a type without a range"
        yield from ([text] for text in TEXTS)
    yield from ([nonsense] for nonsense in NONSENSE)


def test_every_command_has_its_least_arguments() -> None:
    assert sorted(LEAST) == sorted(command.__name__ for group in COMMANDS.values() for command in group)


@pytest.mark.parametrize("command", LEAST)
def test_every_value_of_every_option_is_taken_or_refused_in_one_line(
    command: str, site: Path, capsys: pytest.CaptureFixture[Any]
) -> None:
    assert {"--json", "--quiet"} <= {argument.name for argument in options(command)}
    for argument in options(command):
        for given in values(argument):
            arguments = [command, *LEAST[command].split(), argument.name, *given]
            start = time.process_time()
            code = main(arguments)
            text, error = capsys.readouterr()
            assert code in (0, 1, 2), arguments
            if code == 2:
                assert (text, error.count("\n"), error[:8]) == ("", 1, "tsn-hw: "), arguments
                assert len(error) < 1000, arguments
            else:
                assert text, arguments
            assert time.process_time() - start < MOST_SECONDS, arguments
