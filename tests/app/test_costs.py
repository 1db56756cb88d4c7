"""``tsn-hw cost`` as a user meets it: tables, the same as data, files of one's own, one line for what is wrong."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.nets import random_mlp
from sim.area import read_coefficients
from sim.cost import estimate_cost, read_energy
from sim.devices import device, devices
from sim.search import SearchLimits, search_folding
from tests.helpers.networks import Recipe, random_network
from tsn_hw import save
from tsn_hw.app.cli.main import main

Cost = Callable[..., str]
RESIDUAL = random_network(Recipe("residual", tasks=3, banks=2, seed=4, multipliers=True))


@pytest.fixture
def net(tmp_path: Path) -> Path:
    save(RESIDUAL, tmp_path / "net.tsn")
    return tmp_path / "net.tsn"


@pytest.fixture
def cost(capsys: pytest.CaptureFixture[str]) -> Cost:
    """What the command prints."""

    def run(*arguments: object) -> str:
        assert main(["cost", *map(str, arguments)]) == 0
        text, error = capsys.readouterr()
        assert error == ""
        return text

    return run


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Cost:
    """The one line of a command that must be refused."""

    def run(*arguments: object) -> str:
        assert main(["cost", *map(str, arguments)]) == 2
        text, error = capsys.readouterr()
        assert text == ""
        assert error.startswith("tsn-hw: ")
        assert error.count("\n") == 1
        return error.removeprefix("tsn-hw: ").rstrip("\n")

    return run


def test_a_network_alone_is_set_beside_float32(net: Path, cost: Cost) -> None:
    lines = cost(net).splitlines()
    dense = search_folding(RESIDUAL, device("xc7z020"), limits=SearchLimits(layouts=("dense",)))
    costs = estimate_cost(dense.accelerator)
    assert lines[0] == f"{net}: 3 tasks, 2 banks"
    assert ["multiply-accumulates", str(costs.integer.macs), str(costs.float32.macs), "100.00"] in map(str.split, lines)
    assert lines[-2].startswith(f"file: {8 * net.stat().st_size} bits, of them header ")
    assert lines[-1].startswith(f"images: {costs.images_bits} bits; ")


def test_a_part_adds_the_accelerator_and_what_binds(net: Path, cost: Cost) -> None:
    estimate = search_folding(RESIDUAL, device("xc7z010")).estimate
    lines = cost(net, "--device", "xc7z010").splitlines()
    assert "xc7z010 at 100 MHz, folding chosen by search: the fastest within 80 % of xc7z010" in lines
    assert lines[-2] == "DSPs bind"
    assert lines[-1] == (
        f"{estimate.inferences_per_second:.1f} inferences a second ({estimate.bottleneck} takes "
        f"{estimate.interval_cycles} cycles), latency at most {estimate.latency_us:.1f} us"
    )


def test_json_tells_the_same(net: Path, cost: Cost) -> None:
    data = json.loads(cost(net, "--device", "xc7z010", "--target-fps", "1000", "--json"))
    found = search_folding(RESIDUAL, device("xc7z010"), target_fps=1000)
    costs, hardware = estimate_cost(found.accelerator), data["hardware"]
    assert data["operations"]["integer"]["bops"] == costs.integer.bops
    assert [task["task"] for task in data["operations"]["tasks"]] == ["task0", "task1", "task2"]
    assert data["operations"]["tasks"][1]["layers"][0]["used"] == costs.tasks[1].layers[0].used
    assert data["memory"]["file_bits"] == 8 * net.stat().st_size
    assert data["memory"]["images_bits"] == sum(unit["images_bits"] for unit in data["memory"]["units"])
    assert hardware["interval_cycles"] == found.estimate.interval_cycles
    assert hardware["binding"] == found.estimate.binding
    assert sum(unit["resources"]["lut"] for unit in hardware["units"]) == hardware["resources"]["lut"]
    assert hardware["resources"]["lut"] == found.estimate.resources.lut


def test_a_folding_that_was_saved_gives_the_same_accelerator(net: Path, cost: Cost, tmp_path: Path) -> None:
    file = tmp_path / "folding.json"
    options = (net, "--device", "xc7z010", "--json")
    searched = json.loads(cost(*options, "--save-folding", file))
    read = json.loads(cost(*options, "--folding", file))
    assert read["hardware"]["chosen"] == f"folding as {file} says"
    assert read["hardware"] | {"chosen": ""} == searched["hardware"] | {"chosen": ""}
    assert read["operations"] == searched["operations"]


def test_a_folding_that_does_not_fit_is_told_and_no_error(tmp_path: Path, cost: Cost) -> None:
    save(random_mlp((784, 300, 100, 10)), tmp_path / "lenet.tsn")
    (tmp_path / "wide.json").write_text('{"Defaults": {"PE": 10, "SIMD": 20}, "fc0": {"PE": 10, "SIMD": 28}}')
    text = cost(tmp_path / "lenet.tsn", "--device", "xc7a35t", "--folding", tmp_path / "wide.json")
    assert "does not fit: DSPs bind" in text


def test_the_parts_are_listed_with_their_source(cost: Cost, tmp_path: Path) -> None:
    text = cost("--devices")
    for name, part in devices().items():
        assert f"\n{name}: {part.capacities.source}" in text
    assert json.loads(cost("--devices", "--json"))["xc7z020"]["capacities"]["dsp"] == 220
    (tmp_path / "mine.toml").write_text("[device.xc7z020]\ndsp = 7\n")
    assert (
        json.loads(cost("--devices", "--json", "--device-file", tmp_path / "mine.toml"))["xc7z020"]["capacities"]["dsp"]
        == 7
    )


def test_files_of_one_s_own_count(net: Path, cost: Cost, tmp_path: Path) -> None:
    (tmp_path / "parts.toml").write_text("[device.xc7z010]\nclock_mhz = 50\n")
    (tmp_path / "energy.toml").write_text("[on_chip]\npj = 0\n")
    coefficients = json.loads((Path(__file__).parents[2] / "sim" / "coefficients.json").read_text())
    coefficients["families"]["xc7"]["lut"]["loops"] += 1000
    (tmp_path / "coefficients.json").write_text(json.dumps(coefficients))
    options = (net, "--device", "xc7z010", "--target-fps", "1000", "--json")
    ours = json.loads(cost(*options))
    theirs = json.loads(
        cost(
            *options, "--device-file", tmp_path / "parts.toml", "--energy", tmp_path / "energy.toml",
            "--coefficients", tmp_path / "coefficients.json",
        )
    )  # fmt: skip
    assert (ours["hardware"]["clock_mhz"], theirs["hardware"]["clock_mhz"]) == (100, 50)
    assert theirs["operations"]["integer"]["on_chip_pj"] == 0 < ours["operations"]["integer"]["on_chip_pj"]
    assert theirs["hardware"]["resources"]["lut"] > ours["hardware"]["resources"]["lut"] + 5000


def test_where_dsps_are_few_the_search_may_choose_what_multiplies(net: Path, cost: Cost, tmp_path: Path) -> None:
    (tmp_path / "few.toml").write_text("[device.xc7z020]\ndsp = 24\n")
    chosen, cycles = [], []
    for options in ((), ("--multiplier", "auto")):
        shared = ("--device", "xc7z020", "--device-file", tmp_path / "few.toml", "--save-folding", tmp_path / "f.json")
        cycles.append(json.loads(cost(net, *shared, *options, "--json"))["hardware"]["interval_cycles"])
        chosen.append(set(re.findall(r'"multiplier": "(\w+)"', (tmp_path / "f.json").read_text())))
    assert chosen[0] & {"lut", "packed"}
    assert not chosen[1]
    assert cycles[0] < cycles[1]


def test_operations_are_counted_as_asked(net: Path, cost: Cost) -> None:
    nine, ten, skipped = (
        json.loads(cost(net, "--json", *options))["operations"]["integer"]
        for options in ((), ("--float-factor", "10"), ("--skip-zeros",))
    )
    assert ten["flops"] == pytest.approx(0.9 * nine["flops"])
    assert skipped["flops"] < nine["flops"]
    assert skipped["used_macs"] == nine["used_macs"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "xc7z02"], "device 'xc7z02': unknown; did you mean xc7z020 or xc7z010 or xc7a100t?"),
        (["--target-fps", "3"], "--target-fps: is about an accelerator; name its part with --device"),
        (["--device-file", "x.toml"], "--device-file: is about an accelerator; name its part with --device"),
        (["--device", "x", "--device-file", "none.toml"], "cannot read none.toml: No such file or directory"),
        (["--energy", "none.toml"], "cannot read none.toml: No such file or directory"),
        (["--device", "xc7z010", "--coefficients", "none.json"], "cannot read none.json: No such file or directory"),
        (["--float-factor", "0"], "--float-factor: must be a number within 0.001..1000000, found 0 "
         "('tsn-hw cost --help' tells more)"),
        (["--devices"], "cost: takes a network, or --devices alone"),
        (["--device", "xc7z010", "--clock-mhz", "0"], "--clock-mhz: must be a number within 1..1000, found 0 "
         "('tsn-hw cost --help' tells more)"),
        (["--device", "xc7z010", "--limit-percent", "0"], "--limit-percent: must be a number within 0.1..100, found 0 "
         "('tsn-hw cost --help' tells more)"),
        (["--device", "xc7z010", "--max-tasks", "2"], "max_tasks=2: the network has 3 already"),
        (["--device", "xc7z010", "--target-fps", "1e9"], "device 'xc7z010': nothing runs at 1000000000 inferences a "
         "second with 100 MHz; 'conv1' takes 470 cycles even where all is parallel, that is 212766.0 a second"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(options: list[str], message: str, net: Path, refused: Cost) -> None:
    assert refused(net, *options) == message


def test_a_budget_that_nothing_meets_says_what_binds(net: Path, refused: Cost) -> None:
    line = refused(net, "--device", "ice40-hx8k", "--limit-percent", "20")
    assert line.startswith("device 'ice40-hx8k': no folding fits 20 % of it even at the lowest rate; the least takes ")
    assert "LUTs" in line


def test_a_missing_network_and_no_network_are_refused(refused: Cost, tmp_path: Path) -> None:
    assert refused(tmp_path / "none.tsn").startswith("cannot read ")
    assert refused() == "cost: takes a network, or --devices alone"


def test_options_of_the_search_do_not_go_with_a_folding(net: Path, refused: Cost, tmp_path: Path) -> None:
    message = "--masks: is for the search; the file of --folding says everything about the units"
    assert refused(net, "--device", "xc7z010", "--folding", tmp_path / "f.json", "--masks", "deep") == message


# the documentation ---------------------------------------------------------------------------------------------------

DOCUMENT = (Path(__file__).parents[2] / "docs" / "cost.md").read_text()


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.S)


def test_the_files_that_the_document_shows_are_read(tmp_path: Path) -> None:
    energy, parts = examples("toml")
    (coefficients,) = examples("json")
    file = tmp_path / "mine"
    file.write_text(energy)
    assert read_energy(file).on_chip.pj == 100
    file.write_text(parts)
    assert devices(file)["my-board"].capacities.clock_mhz == 125
    file.write_text(coefficients)
    assert read_coefficients(file).families["xc7"].points == 26


def test_the_errors_that_the_document_tells_are_those_of_the_coefficients() -> None:
    families = read_coefficients().families
    figures = [
        f"{families[name].lut_leave_one_out_percent}, {families[name].ff_leave_one_out_percent}"
        for name in ("xc7", "ecp5", "ice40")
    ]
    assert f"| mean error of a point left out: LUTs, flip-flops, % | {' | '.join(figures)} |" in DOCUMENT
