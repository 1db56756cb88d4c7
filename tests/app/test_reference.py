"""The pages that are made of the code: nothing that a user may write is missing, every link of the site holds."""

import dataclasses
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sim.cost
import sim.devices
from tests.app.test_options import LEAST, options
from tsn_hw.app.cli.main import COMMANDS, main
from tsn_hw.app.reference import pages
from tsn_hw.app.reference.keys import commented_settings
from tsn_hw.app.reference.notebooks import cells, notebook_page, run_cells
from tsn_hw.app.reference.site import gather
from tsn_hw.app.sweep import settings as sweep_settings
from tsn_hw.core import errors
from tsn_hw.core.errors import SettingsError, TsnError
from tsn_hw.learn import settings
from tsn_hw.learn.config import read_settings

ROOT = Path(__file__).parents[2]
FILES = [
    *(settings.DataSettings, settings.StreamSettings, settings.ModelSettings, settings.LayerSettings),
    *(settings.Formats, settings.TrainSettings, settings.PruneSettings, settings.QuantizeSettings),
    *(
        settings.RouteSettings,
        sweep_settings.Values,
        sweep_settings.Search,
        sweep_settings.Budget,
        sweep_settings.DeviceBudget,
    ),
    *(sim.devices.Family, sim.devices.Capacities, *[sim.cost.Figure] * len(dataclasses.fields(sim.cost.EnergyTable))),
]
"""The class of every table of TOML; those of the whole files hold further tables."""


def test_every_option_of_every_command_has_an_entry() -> None:
    page = pages.commands_page()
    told = {
        section.partition("\n")[0]: set(re.findall(r"(--[\w-]+)", " ".join(re.findall(r"{option} (.*)", section))))
        for section in page.split("\n### tsn-hw ")[1:]
    }
    shared = {"--json", "--quiet"}
    assert shared == set(re.findall(r"{option} (--\w+)", page.partition("\n### ")[0]))
    known = {command: {each.name for each in options(command)} - shared for command in LEAST}
    assert {command: {option for option in told[command] if option in known[command]} for command in told} == known
    assert len(re.findall(r"^:::{option} \S", page, re.M)) >= sum(map(len, known.values())) + len(shared)
    assert not re.search(r"^:::{option} .*\n\n:::", page, re.M), "an option without a sentence"


def test_every_key_of_every_file_has_a_type_and_a_sentence() -> None:
    entries = re.findall(r":::{confval} (.*)\n:type: .+\n(?::default: .+\n)?\n(.{5,})\n:::", pages.keys_page())
    assert len(entries) == pages.keys_page().count("{confval}")
    found = sorted(name.rpartition(".")[2] for name, _ in entries)
    assert found == sorted([*(name for kind in FILES for name in leaves(kind)), "seed", "run", "train"])
    for path in (ROOT / "examples").rglob("*.toml"):  # what examples write is told
        assert set(keys_of(tomllib.loads(path.read_text()))) <= {name for name, _ in entries}


def leaves(kind: Any) -> list[str]:
    """The fields of a table that are no tables."""
    return [
        field.name for field in dataclasses.fields(kind) if not re.search("LayerSettings|DeviceBudget", str(field.type))
    ]


def keys_of(table: dict[str, Any], name: str = "") -> Iterator[str]:
    """The keys that a file has, those within tables with the names of the tables."""
    for key, value in table.items():
        inner = f"{name}.{key}" if name else key
        tables = [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, dict)]
        if inner in ("values.layers", "train.keep_table") or not tables:
            yield inner
        else:
            yield from (key for below in tables for key in keys_of(below, inner))


def test_every_error_has_an_entry() -> None:
    known = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, TsnError)}
    assert set(re.findall(r"autoexception:: tsn_hw\.core\.errors\.(\w+)", pages.errors_page())) == known
    assert len(known) > 10


def test_init_writes_the_defaults_and_never_over_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "run.toml"]) == 0
    assert "tsn-hw train run.toml -o build/run" in capsys.readouterr().out
    assert read_settings("run.toml") == settings.Settings()
    for kind in (settings.TrainSettings, settings.DataSettings, settings.Formats):
        for field in dataclasses.fields(kind):
            assert re.search(rf"^(# )?{field.name} =", commented_settings(), re.M)
    Path("run.toml").write_text("seed = 3\n")
    assert main(["init", "run.toml"]) == 2
    assert capsys.readouterr().err == "tsn-hw: run.toml: is there already; name another file\n"
    assert Path("run.toml").read_text() == "seed = 3\n"


def test_the_picture_of_the_whole_names_commands() -> None:
    drawn = re.findall(r"tsn-hw (\w+)", (ROOT / "docs/overview.svg").read_text())
    known = {command.__name__ for group in COMMANDS.values() for command in group}
    assert len(set(drawn)) > 8
    assert set(drawn) <= known


def test_a_notebook_is_run_cell_by_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "one.py"
    script.write_text(
        "# %% [markdown]\n# # Title\n#\n# Text.\n\n# %%\nx = 1\n\n# %%\nprint(x + 1)\nopen('a_b.png', 'w').close()\n"
        "# %%\nfrom tsn_hw.core.errors import EngineError\nraise EngineError('no tool')\n# %%\nprint('never')\n"
    )
    assert [cell.is_text for cell in cells(script)] == [True, False, False, False, False]
    first, second, reason = run_cells(script)
    assert not isinstance(first, str)
    assert not isinstance(second, str)
    assert (first.printed, second.printed, reason) == ("", "2\n", "no tool")
    assert [picture.name for picture in second.pictures] == ["a_b.png"]
    (tmp_path / "site").mkdir()
    (tmp_path / "a_b.png").unlink()
    page = notebook_page(script, tmp_path / "site", "one.py")
    assert page.startswith("# Title\n\nText.\n\n```python\nx = 1\n```\n\n```python\n")
    assert "```text\n2\n```\n\n![a b](one_a_b.png)\n" in page
    assert "*Not run here: no tool.*" in page
    assert (tmp_path / "site" / "one_a_b.png").is_file()
    script.write_text("x = 1\n")
    with pytest.raises(SettingsError, match="must begin with a cell"):
        cells(script)


def test_every_link_of_the_site_holds(tmp_path: Path) -> None:
    pytest.importorskip("furo", reason="Sphinx, MyST and furo make the site: pip install '.[docs]'")
    folder = tmp_path / "pages"
    folder.mkdir()
    documents = {path.stem for path in gather(ROOT, folder, run=False)}
    listed = re.findall(r"^[\w-]+$", (folder / "index.md").read_text(), re.M)
    notebooks = {path.stem for path in (ROOT / "examples/notebooks").glob("*.py")}
    assert sorted([*listed, *notebooks, "index"]) == sorted(documents)  # each once
    (folder / "python.md").write_text("# Python\n")  # autodoc takes half a minute; `make site` does it
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-b", "dummy", str(folder)]
    built = subprocess.run([*command, str(tmp_path / "site")], capture_output=True, text=True, check=False, timeout=300)
    assert (built.returncode, built.stderr) == (0, "")
