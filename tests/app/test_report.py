"""The report tells what the network, its run and its sweep really are, and any browser can show it."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.rtl.place import Routed
from tests.helpers.networks import Recipe, random_network
from tests.helpers.sweeping import RUN
from tests.helpers.tiny_run import copied_run
from tsn_hw.app.cli.main import main
from tsn_hw.app.hardware.rtl import FamilyEstimate
from tsn_hw.app.hardware.synth import Synthesis
from tsn_hw.app.learning.runs import RunFolder
from tsn_hw.app.sweep.results import read_sweep_summary
from tsn_hw.core import artifact
from tsn_hw.core.capacity import capacity
from tsn_hw.core.errors import SettingsError

NAMES = [f"digits-permuted-{task}" for task in range(3)]


class Page(HTMLParser):
    """Tables by caption, text of notes and cards, and pictures of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.caption, self.rows, self.inside = "", list[list[str]](), list[str]()
        self.images: list[dict[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append({name: value or "" for name, value in attributes})
        if tag in ("meta", "link", "img", "br", "rect", "circle", "polygon", "polyline"):
            return
        self.inside.append(tag)
        if tag in ("h3", "summary"):
            self.caption = ""
        elif tag == "table":
            self.rows = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect", "circle", "polygon", "polyline"):
            assert self.inside.pop() == tag
        if tag == "table":
            self.tables[self.caption] = self.rows

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.inside and self.inside[-1] in ("h3", "summary"):
            self.caption += data
        elif self.inside and self.inside[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def page_of(folder: Path) -> Page:
    return Page((folder / "report.html").read_text())


def numbers(cells: list[str]) -> list[float]:
    return [float(cell.replace(",", "")) for cell in cells]


# -------------------------------------------------------------------------------------------------------- what it says


def test_the_accuracies_are_those_of_the_stored_networks(deep: Path) -> None:
    metrics = RunFolder(deep).metrics()
    header, *rows = page_of(deep).tables["Test accuracy in percent"]
    assert header == ["", *NAMES]
    assert [row[0] for row in rows] == [f"after {name}" for name in NAMES]
    for values, row in zip(metrics.matrix, rows, strict=True):
        assert row[1:] == ["" if np.isnan(value) else f"{value:.2f}" for value in values]
    assert f"{metrics.acc:.2f} %" in page_of(deep).text


def test_the_bits_that_the_tasks_added_are_those_of_the_file(deep: Path) -> None:
    data = (deep / "net.tsn").read_bytes()
    header, *rows = page_of(deep).tables["Bits that every task added"]
    assert header[1:9] == ["codes", "codebooks", "masks", "heads", "requantization", "routing", "header", "all"]
    assert [sum(column) for column in zip(*(numbers(row[8:9]) for row in rows), strict=True)] == [8 * len(data)]
    for row in rows:
        assert sum(numbers(row[1:8])) == numbers(row[8:9])[0]
    for count, row in enumerate(rows, start=1):
        sizes = capacity(artifact.from_bytes(data).first_tasks(count))
        assert row[9:] == [f"{sizes.body_percent:.2f}", f"{sizes.total_percent:.2f}"]


def test_the_layers_are_told_by_bank(deep: Path) -> None:
    net = artifact.load(deep / "net.tsn")
    _, *rows = page_of(deep).tables["Weight memories"]
    assert [row[:4] for row in rows] == [
        ["fc1", "0", "64 → 10", "640"],
        ["fc2", "0", "10 → 8", "80"],
        ["fc1", "1", "64 → 10", "640"],
        ["fc2", "1", "10 → 8", "80"],
    ]
    for row, layer in zip(rows, (layer for layer in capacity(net).layers if not layer.is_head), strict=True):
        assert numbers(row[6:9]) == [layer.codes_bits, layer.codebooks_bits, layer.masks_bits]


def test_who_reads_whose_weights_adds_up_to_what_every_task_uses(deep: Path) -> None:
    net = artifact.load(deep / "net.tsn")
    text = (deep / "report.html").read_text()
    shown = re.findall(r">Body weights of an owner.*?</table>", text, re.DOTALL)
    assert len(shown) == len(net.banks) == 2
    sizes = capacity(net)
    for bank, table in enumerate(shown):
        tasks = net.bank_tasks(bank)
        header, *rows = Page(f"<h3{table}").tables.popitem()[1]
        names = [NAMES[task] for task in tasks]
        assert header == ["owner", *names]
        assert [row[0] for row in rows] == names
        counts = np.array([[float(cell.replace(",", "") or 0) for cell in row[1:]] for row in rows])
        assert counts.sum(axis=0).tolist() == [sizes.tasks[task].used for task in tasks]
        assert np.diag(counts).tolist() == [sizes.tasks[task].owned for task in tasks]


def test_the_verification_is_that_of_this_network(deep: Path, tmp_path: Path) -> None:
    found = json.loads((deep / "verify.json").read_text())
    _, *rows = page_of(deep).tables["Integers that differ from the int64 loop"]
    assert [row[0] for row in rows] == list(found["engines"])
    for row in rows[1:]:
        layers = found["engines"][row[0]]["tasks"][NAMES[2]]["layers"].values()
        assert row[4] == f"0 of {sum(layer['outputs'] for layer in layers):,}"
    assert "passed" in page_of(deep).text
    _, *seals = page_of(deep).tables["Seals: SHA-256 of all that a task reads"]
    net = artifact.load(deep / "net.tsn")
    assert seals == [[name, artifact.seal(net, t)[:16], "unchanged since"] for t, name in enumerate(NAMES)]


def test_a_difference_and_an_absent_engine_are_shown(tmp_path: Path) -> None:
    folder = copied_run(tmp_path / "run", RUN)
    main(["verify", str(folder / "net.tsn"), "-o", str(folder / "verify.json"), "--samples", "4", "--quiet"])
    found = json.loads((folder / "verify.json").read_text())
    found |= {"passed": False, "mismatches": 2, "first_difference": "simulator, task 'x': 1 instead of 2"}
    found["engines"]["brevitas"] = {"absent": "no checkpoint"}
    layers = found["engines"]["simulator"]["tasks"][NAMES[0]]["layers"]
    layers["fc1"]["mismatches"] = 2
    (folder / "verify.json").write_text(json.dumps(found))
    assert main(["report", str(folder)]) == 0
    text = (folder / "report.html").read_text()
    page = Page(text)
    rows = {row[0]: row for row in page.tables["Integers that differ from the int64 loop"]}
    assert rows["brevitas"] == ["brevitas", "–", "", "", "no checkpoint"]
    outputs = sum(layer["outputs"] for layer in layers.values())
    assert rows["simulator"][2] == f"2 of {outputs:,}"
    assert f'class="bad">2 of {outputs:,}<' in text
    assert "FAILED" in page.text
    assert "FIRST DIFFERENCE: simulator, task 'x': 1 instead of 2" in page.text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "There is no verify.json beside the network; tsn-hw verify net.tsn -o verify.json makes it."),
        (
            {"network": "0"},
            "The verify.json beside the network is of another one; tsn-hw verify net.tsn -o verify.json makes it anew.",
        ),
    ],
)
def test_a_verification_that_is_missing_or_of_another_network_is_not_shown(
    content: object, expected: str, tmp_path: Path
) -> None:
    net = random_network(Recipe(tasks=2, kind="conv"))
    artifact.save(net, tmp_path / "some.tsn")
    if content is not None:
        (tmp_path / "verify.json").write_text(json.dumps(content))
    assert main(["report", str(tmp_path / "some.tsn")]) == 0
    page = page_of(tmp_path)
    assert expected in page.text
    assert "not shown" in page.text
    assert "Test accuracy in percent" not in page.tables  # a network alone has no data


ANEW = "tsn-hw verify net.tsn -o verify.json makes it anew"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found.pop("engines"), "has no 'engines'"),
        (lambda found: found.update(engines=[]), "engines = []: must be a table"),
        (lambda found: found["engines"]["onnx"].pop("tasks"), f"engines.onnx: has no task 'task0'; {ANEW}"),
        (lambda found: found["engines"].update(x=3), "engines.x: must be a table, found int"),
        (lambda found: found.update(mismatches="x" * 5000), f"mismatches = '{'x' * 76}...: must be a whole number"),
    ],
)  # fmt: skip
def test_a_verification_of_another_form_is_one_line(
    change: Callable[[Any], Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact.save(random_network(Recipe(tasks=2, kind="conv")), tmp_path / "net.tsn")
    path = tmp_path / "verify.json"
    found = {"passed": True, "network": sha256((tmp_path / "net.tsn").read_bytes()).hexdigest(), "mismatches": 0}
    found |= {"first_difference": None, "broken_seals": [], "changed_snapshots": [], "inputs": {}}
    layer = {"outputs": 1, "mismatches": 0, "first": None}
    tasks = {f"task{task}": {"digest": "", "layers": {"conv": layer}} for task in range(2)}
    found["engines"] = {"onnx": {"mismatches": 0, "inputs": 1, "tasks": tasks}}
    path.write_text(json.dumps(found))
    assert main(["report", str(tmp_path / "net.tsn")]) == 0
    change(found)
    path.write_text(json.dumps(found))
    capsys.readouterr()
    assert main(["report", str(tmp_path / "net.tsn")]) == 2
    assert capsys.readouterr().err == f"tsn-hw: {path}: {message}\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found["rows"][0].pop("bops"), "rows[0]: has no 'bops'"),
        (lambda found: found["rows"][1].update(point="8"), "rows[1]: point = '8': must be a whole number"),
        (lambda found: found["rows"][0].update({"bits.fc1": None}), "rows[0]: bits.fc1 = None: must be a whole number"),
        (lambda found: found.update(chosen=99), "names point 99, and has 2"),
        (lambda found: found.update(front=[-1]), "names point -1, and has 2"),
        (lambda found: found.update(float_percent=1e300), "float_percent = 1e+300: must be 0..100"),
        (lambda found: found.update(rows=[]), "names point 0, and has 0"),
    ],
)  # fmt: skip
def test_a_sweep_of_another_form_is_one_line(change: Callable[[Any], Any], message: str, tmp_path: Path) -> None:
    row = {"point": 0, "bits.fc1": 2, "activation_bits": 8, "accuracy_percent": 50.0, "total_percent": 5.0, "bops": 1e6}
    row |= {"used_weights": 1, "sha256": "0" * 64}
    found = {
        "rows": [row, row | {"point": 1}],
        "runs": ["x"],
        "float_percent": 51.0,
        "front": [0],
        "budget": {},
        "chosen": 1,
    }
    (tmp_path / "sweep.json").write_text(json.dumps(found))
    assert read_sweep_summary(tmp_path).chosen == 1
    change(found)
    (tmp_path / "sweep.json").write_text(json.dumps(found))
    with pytest.raises(SettingsError) as error:
        read_sweep_summary(tmp_path)
    assert str(error.value) == f"{tmp_path / 'sweep.json'}: {message}"


def test_the_sweep_is_told_with_its_choice_and_every_point(swept: Path) -> None:
    page = Page((swept / "page.html").read_text())
    found = json.loads((swept / "out" / "sweep.json").read_text())
    chosen = found["rows"][found["chosen"]]
    assert f"Point {chosen['point']} is the smallest network within the budget" in page.text
    _, *rows = page.tables["All 12 points"]
    for row, point in zip(rows, found["rows"], strict=True):
        assert row[:3] == [str(point[name]) for name in ("point", "bits.fc1", "bits.head")]
        assert numbers(row[4:6]) == [round(point["accuracy_percent"], 2), round(point["total_percent"], 2)]
        assert row[9] == f"{point['sha256'][:16]}.tsn"
    assert [row[8] for row in rows].count("chosen") == 1
    assert "xc7z010, 80 %" in page.text  # the line of the part
    assert "budget, " in page.text


def test_the_part_is_told_with_its_units(deep: Path) -> None:
    tables = page_of(deep).tables
    assert [row[0] for row in tables["Units"]] == ["unit", "fc1", "fc2", "head", "all"]
    assert tables["Resources of the part"][4][0] == "block RAMs"
    assert "On xc7z010" in page_of(deep).text


def test_what_was_measured_in_gates_stands_beside_the_estimate(tmp_path: Path) -> None:
    net, page = tmp_path / "net.tsn", tmp_path / "page.html"
    made = random_network(Recipe(kind="mlp", tasks=2, seed=14))
    artifact.save(made, net)
    assert main(["cost", str(net), "--device", "ice40-hx8k", "--save-folding", str(tmp_path / "folding.json")]) == 0
    rtl = tmp_path / "rtl"
    assert main(["rtl", str(net), "--folding", str(tmp_path / "folding.json"), "-o", str(rtl)]) == 0
    routed = Routed("ice40-hx8k", "ct256", "nextpnr-ice40 0.4", 1, 61.5, {"ICESTORM_LC": 2500}, "synthesis/ice40.bin")
    estimated, used = FamilyEstimate("ice40-hx8k", {"lut": 1900, "bram": 40}), {"lut": 2000, "bram": 40}
    whole = {"lut": 7680, "bram": 32}
    found = Synthesis("ice40", "Yosys 0.23", used, {}, estimated, "ice40-hx8k", 40.0, whole, routed)
    (rtl / "report" / "synthesis_ice40.json").write_text(json.dumps(asdict(found)))
    assert main(["report", str(net), "--rtl", str(rtl), "-o", str(page)]) == 0
    tables = Page(page.read_text()).tables
    told = ["ice40-hx8k", "does not fit ice40-hx8k: block RAMs bind", "61.50", "40.00"]
    assert tables["Parts"][1] == [*told, "Yosys 0.23; nextpnr-ice40 0.4, ct256, seed 1"]
    assert tables["Measured and estimated"][1:] == [
        ["ice40-hx8k", "LUTs", "2,000", "1,900", "7,680", "26.04"],
        ["ice40-hx8k", "block RAMs", "40", "40", "32", "125.00"],
    ]


def test_a_part_that_is_too_small_is_told_and_everything_else_too(tmp_path: Path) -> None:
    net, page = tmp_path / "net.tsn", tmp_path / "page.html"
    artifact.save(random_network(Recipe(kind="mlp", tasks=2, seed=14)), net)
    assert main(["report", str(net), "-o", str(page), "--device", "ice40-hx8k", "--target-fps", "1e9"]) == 0
    told = Page(page.read_text())
    assert "No accelerator" in told.text
    assert "device 'ice40-hx8k': nothing runs at 1000000000 inferences a second with 40 MHz; " in told.text
    assert len(told.tables["Tasks"]) == 3


def test_a_run_that_was_killed_says_which_tasks_are_missing(tmp_path: Path) -> None:
    run = copied_run(tmp_path / "run")
    (run / "tasks/after_01.tsn").unlink()
    shutil.copy(run / "tasks/after_00.tsn", run / "net.tsn")
    assert main(["report", str(run)]) == 0
    told = Page((run / "report.html").read_text()).text
    assert "1 tasks of the run are not learned yet: digits-permuted-1. tsn-hw train goes on with --resume." in told


def test_names_are_text_and_never_markup(deep: Path) -> None:
    text = (deep / "report.html").read_text()
    assert "<h1>deep &lt;run&gt; &amp; more</h1>" in text
    assert "<run>" not in text


def test_the_same_run_gives_the_same_page(deep: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.html"
    assert main(["report", str(deep), "--device", "xc7z010", "--target-fps", "1000", "-o", str(again)]) == 0
    assert again.read_bytes() == (deep / "report.html").read_bytes()


# ---------------------------------------------------------------------------------------------------------- bad input


def test_bad_input_is_one_line_and_exit_code_2(
    swept: Path, deep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = str(deep / "net.tsn")
    for arguments, expected in [
        ([str(tmp_path / "nowhere")], f"cannot read {tmp_path / 'nowhere'}: No such file or directory"),
        ([str(tmp_path)], f"{tmp_path} is no training run: it has no settings.json"),
        ([net, "--sweep", str(swept / "out")], "--sweep: goes with the folder of the run that was swept"),
        ([str(deep), "--sweep", str(swept / "out")], f"--sweep {swept / 'out'}: is a sweep of another run than {deep}"),
        ([str(deep), "--sweep", str(tmp_path)], f"cannot read {tmp_path / 'sweep.json'}: No such file or directory"),
        ([net, "--device", "xc7z999"], "device 'xc7z999': unknown; did you mean xc7z0"),
        ([net, "--target-fps", "9"], "--target-fps: is about an accelerator; name its part with --device"),
        ([net, "--rtl", str(tmp_path)], f"cannot read {tmp_path / 'folding.json'}: No such file or directory"),
    ]:
        assert main(["report", *arguments, "-o", str(tmp_path / "page.html")]) == 2
        told = capsys.readouterr().err
        assert told.startswith(f"tsn-hw: {expected}")
        assert told.count("\n") == 1
    assert not (tmp_path / "page.html").exists()
