"""What users import: every name is there, and takes a path however it is written."""

import inspect
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import export
import sim
import tsn_hw
import tsn_hw.learn
from tests.helpers.networks import Recipe, random_network
from tsn_hw.core.errors import SettingsError
from tsn_hw.hardware.pipeline import least_accelerator

NET = random_network(Recipe(kind="mlp", tasks=2, seed=14))


@pytest.mark.parametrize("module", [tsn_hw, tsn_hw.learn, export, sim], ids=lambda module: module.__name__)
def test_public_functions_take_paths_as_text_too(module: ModuleType) -> None:
    public = [getattr(module, name) for name in module.__all__]
    functions = [value for value in public if inspect.isfunction(value) or inspect.ismethod(value)]
    assert functions
    for function in functions:
        for name, parameter in inspect.signature(function).parameters.items():
            assert parameter.annotation not in ("Path", "Path | None", Path), (function, name)


def test_what_was_written_to_a_path_in_text_is_read_from_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tsn_hw.save(NET, "a/net.tsn")
    assert tsn_hw.load("a/net.tsn").tasks[1].name == NET.tasks[1].name
    export.write_onnx(NET, "onnx")
    export.write_onnx_shared(NET, "shared")
    assert [len(export.check_folder(name)) for name in ("onnx", "shared")] == [2, 2]
    export.write_qonnx(NET, "onnx", "quant")
    design = least_accelerator(NET)
    export.write_memories(design, "memories")
    assert len(export.read_memories("memories")) > 2
    export.write_hls(design, "hls", golden=[])
    export.write_rtl(design, "rtl")
    Path("mine.toml").write_text("[device.xc7z020]\nclock_mhz = 7\n")
    assert sim.device("xc7z020", "mine.toml").capacities.clock_mhz == 7


def test_a_task_is_given_by_its_number_or_its_name() -> None:
    name, x = NET.tasks[1].name, np.zeros((1, *NET.input_shape), np.int64)
    np.testing.assert_array_equal(sim.simulate(NET, name, x), sim.simulate(NET, np.int64(1), x))
    assert export.onnx_graph(NET, name) == export.onnx_graph(NET, 1)
    assert export.qonnx_graph(NET, name, "quant") == export.qonnx_graph(NET, 1, "quant")
    for wrong in ("none", 2, -1, 1.0, True):
        for function in (sim.Simulator, export.onnx_graph):
            with pytest.raises(SettingsError) as refused:
                function(NET, wrong)
            assert str(refused.value) == f"task {wrong!r}: must be 0..1 or a name, such as 'task0'"


def test_the_cost_of_a_network_is_that_of_its_least_accelerator() -> None:
    assert sim.estimate_cost(NET) == sim.estimate_cost(least_accelerator(NET))
