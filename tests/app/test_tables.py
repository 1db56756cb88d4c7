"""The example of tables: sets of different widths in one stream and one network."""

import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from tsn_hw.learn import RunOptions, mlp, own_stream, train

EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "examples/tables.py"))


@pytest.mark.filterwarnings("ignore")
def test_tables_of_different_widths_become_one_network(tmp_path: Path) -> None:
    stream = own_stream(EXAMPLE["tables"](), valid_share=0.2)
    assert (stream.names, stream.input_shape, stream.pixels) == (("wine", "cancer", "iris"), (30,), False)
    settings = EXAMPLE["SETTINGS"]
    settings = replace(
        settings, train=replace(settings.train, epochs=2), quantize=replace(settings.quantize, qat_epochs=1)
    )
    net = train(mlp((30,), (8,), batch_norm=True), stream, settings, tmp_path, options=RunOptions(quiet=True)).network
    assert [len(task.classes) for task in net.tasks] == [3, 2, 3]
