"""Every option of every command, walked as the parser has them: at the ends of its range, beyond, and with nonsense.

A command that is added comes along: it only needs its least arguments below. Training and synthesis are left out.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from export import write_onnx
from tests.helpers.networks import Recipe, random_network
from tests.helpers.tiny_run import TINY_TOML
from tsn_hw.app.cli.command import Number, path, task
from tsn_hw.app.cli.main import main, parser
from tsn_hw.core import artifact
from tsn_hw.core.errors import EngineError, TrainingError

LEAST = {
    "demo": "--out demo",
    "train": "run.toml -o run",
    "show": "net.tsn",
    "onnx": "net.tsn -o graphs",
    "run": "task_00.onnx x.npy",
    "check": "net.tsn",
    "hls": "net.tsn -o hls --samples 1",
    "cost": "net.tsn --device xc7z020",
    "memories": "net.tsn --folding folding.json -o memories --formats mem",
    "rtl": "net.tsn --folding folding.json -o rtl",
    "synth": "rtl --target ecp5",
    "calibrate": "-o mine.json --runs runs.jsonl",
    "simulate": "net.tsn --task 0 --input x.npy",
    "sweep": "sweep.toml -o sweep",
    "report": "net.tsn",
    "verify": "net.tsn --samples 1",
    "bench": "paper --preset run.toml -o paper",
}
COMMANDS: dict[str, argparse.ArgumentParser] = next(
    action.choices for action in parser()._actions if isinstance(action, argparse._SubParsersAction)
)
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
    monkeypatch.setattr("tsn_hw.app.hardware.calibrate.synthesize_trial", refuse(EngineError))
    return tmp_path


def refuse(error: type[Exception]) -> Callable[..., NoReturn]:
    def stop(*_: object, **__: object) -> NoReturn:
        raise error("this takes minutes")

    return stop


def values(action: argparse.Action) -> Iterator[list[str]]:
    """What an option is given, one after the other."""
    if action.nargs == 0:
        yield []
        return
    if isinstance(action.type, Number):
        step = 1 if action.type.kind is int else 1e-9
        ends = (action.type.low, action.type.high, action.type.low - step, action.type.high * 2 + step)
        yield from ([f"{end:.17g}"] for end in ends)
    elif action.choices is not None:
        yield from ([str(choice)] for choice in action.choices)
    elif action.type is path:
        yield from (["net.tsn"], ["folding.json"], ["."], ["/dev/null/below"], ["nowhere"])
    elif action.type is task:
        yield from (["1"], ["2"], ["task1"])
    else:
        assert action.type is None, f"{action.option_strings}: a type without a range"
        yield from ([text] for text in TEXTS)
    yield from ([nonsense] for nonsense in NONSENSE)


def test_every_command_has_its_least_arguments() -> None:
    assert LEAST.keys() == COMMANDS.keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_value_of_every_option_is_taken_or_refused_in_one_line(
    command: str, site: Path, capsys: pytest.CaptureFixture[Any]
) -> None:
    for action in COMMANDS[command]._actions:
        for given in values(action) if action.option_strings and action.dest != "help" else ():
            arguments = [command, *LEAST[command].split(), action.option_strings[-1], *given]
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
