"""The examples and the documentation of settings say what the program does."""

import dataclasses
import re
from pathlib import Path

import pytest

from tsn_hw.app.cli.main import main
from tsn_hw.app.learning.demo import DEMO
from tsn_hw.core.errors import DataError
from tsn_hw.learn.config import read_settings, stream_of
from tsn_hw.learn.ready import architecture_of
from tsn_hw.learn.settings import Settings

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))
SHAPES = {
    "digits": (1, 8, 8),
    "idx": (1, 28, 28),
    "cifar": (3, 32, 32),
    "tinyimagenet": (3, 64, 64),
    "folder": (3, 32, 32),
}
BODY_WEIGHTS = {
    "permuted_mnist": 88_400,
    "split_cifar100": 6_499_328,
    "split_tinyimagenet": 2_743_520,
    "split_imagenet100": 11_159_232,
    "five_datasets": 1_090_140,
}
"""The bodies of the paper, by preset."""


def test_there_are_examples() -> None:
    assert "digits" in [path.stem for path in EXAMPLES]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_read_and_describes_a_network(path: Path) -> None:
    settings = read_settings(path)
    shape = SHAPES[settings.data[0].source]
    if settings.stream.kind == "mixed":
        shape = (settings.stream.channels, settings.stream.side, settings.stream.side)
    weights = architecture_of(settings, shape).body_weights
    assert weights == BODY_WEIGHTS.get(path.stem, weights) > 0


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_says_how_it_is_run(path: Path) -> None:
    assert f"#   tsn-hw train examples/{path.name} -o build/{path.stem}" in path.read_text().splitlines()


def test_the_digits_example_is_what_the_demo_learns() -> None:
    assert read_settings(ROOT / "examples" / "digits.toml") == DEMO


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_missing_data_is_one_line_that_says_what_to_put_where(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = read_settings(path)
    if not settings.data[0].path:
        assert len(stream_of(settings)) == settings.stream.tasks
        return
    text = path.read_text().replace('path = "../', f'path = "{tmp_path}/nowhere/')
    (tmp_path / "example.toml").write_text(text)
    with pytest.raises(DataError):
        stream_of(read_settings(tmp_path / "example.toml"))
    assert main(["train", str(tmp_path / "example.toml"), "-o", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{tmp_path}/nowhere/" in error
    assert " is missing; put " in error
    assert not (tmp_path / "run").exists()


def test_the_documentation_lists_every_key_of_every_table() -> None:
    rows = re.findall(
        r"^\| (?:`\[(\w+)\]`|\(top level\)).*? \| (.*) \|$", (ROOT / "docs/training.md").read_text(), re.M
    )
    told = {table: set(re.findall(r"`(\w+)`", keys)) for table, keys in rows}
    defaults = Settings()
    tables = {
        field.name: value[0] if isinstance(value := getattr(defaults, field.name), tuple) else value
        for field in dataclasses.fields(Settings)
    }
    expected = {
        name: {field.name for field in dataclasses.fields(table)}
        for name, table in tables.items()
        if dataclasses.is_dataclass(table)
    }
    assert told.pop("") == {name for name in tables if name not in expected}
    assert told == expected
