"""Plain values become dataclasses or one line that names the key."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from tsn_hw.core.errors import FileError, SettingsError
from tsn_hw.core.records import build, read_json, read_toml


@dataclass(frozen=True)
class Inner:
    width: int


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    shape: tuple[int, ...] = ()
    kind: Literal["a", "b"] = "a"


def test_tables_lists_and_choices_land_in_their_fields() -> None:
    values = {"name": "x", "inner": {"width": 3}, "shape": [1, 2], "kind": "b"}
    assert build(Outer, values, "file") == Outer("x", Inner(3), (1, 2), "b")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inner": {"width": 3}}, "file: has no 'name'"),
        ({"name": "x", "inner": {}}, "file: inner: has no 'width'"),
        (
            {"name": "x", "inner": {"width": 3}, "knd": "a"},
            "file: unknown key 'knd'; known are name, inner, shape, kind",
        ),
        ({"name": "x", "inner": {"width": True}}, "file: inner: width = True: must be a whole number"),
        ({"name": "x", "inner": {"width": 3}, "kind": "c"}, "file: kind = 'c': must be one of 'a', 'b'"),
        ([], "file: must be a table, found list"),
    ],
)
def test_what_does_not_fit_is_one_line(values: object, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        build(Outer, values, "file")
    assert str(error.value) == message


def test_files_that_are_missing_or_of_another_kind_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x"
    with pytest.raises(FileError, match="cannot read"):
        read_toml(file)
    file.write_text("{")
    for read, what in ((read_toml, "not a TOML file"), (read_json, "not JSON")):
        with pytest.raises(SettingsError, match=what):
            read(file)
