"""``tsn-hw cost --target c``: figures of microcontrollers, and one line for what does not go together."""

import json

import pytest

from tests.helpers.small_network import NET
from tsn_hw import save
from tsn_hw.app.cli.main import main


@pytest.fixture
def net(tmp_path):
    save(NET, tmp_path / "net.tsn")
    return str(tmp_path / "net.tsn")


def test_flash_ram_and_instructions_are_told_by_task_and_by_core(net, capsys):
    assert main(["cost", net, "--target", "c", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [task["task"] for task in found["tasks"]] == ["a", "b"]
    assert list(found["cores"]) == ["Cortex-M0+", "Cortex-M4", "Cortex-M33", "RV32IMC"]
    assert found["constants_bytes"] >= sum(task["section_bytes"] for task in found["tasks"])
    for task in found["tasks"]:
        assert 0 < task["used_macs"] <= task["macs"]
        assert task["instructions"]["Cortex-M0+"] > task["instructions"]["Cortex-M4"] > task["used_macs"]
    assert main(["cost", net, "--target", "c"]) == 0
    text = capsys.readouterr().out
    assert f"{found['constants_bytes']:,} bytes of constants in flash" in text
    assert "they were not measured" in " ".join(text.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--target=c", "--device=pynq-z2"],
            "cost --target c: knows no --device and nothing of how operations are counted",
        ),
        (
            ["--target=c", "--skip-zeros"],
            "cost --target c: knows no --device and nothing of how operations are counted",
        ),
        (["--optimize=speed"], "--optimize: is about C; add --target c"),
    ],
)
def test_options_that_do_not_go_together_are_refused(net, options, message, capsys):
    assert main(["cost", net, *options]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
