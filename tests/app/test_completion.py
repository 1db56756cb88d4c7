"""What shells complete: commands, options and choices, from the scripts that the command line prints."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tsn_hw.app.cli.main import COMMANDS, main


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


def completed(line: str, folder: Path) -> list[str]:
    """What bash offers at the end of a line, once it has read the script of a folder."""
    (function,) = (
        part.split()[part.split().index("-F") + 1]
        for part in (folder / "script").read_text().splitlines()
        if part.startswith("complete ")
    )
    ask = (
        f"source ./script; COMP_WORDS=({line} ''); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); "
        f"COMP_LINE='{line} '; COMP_POINT=${{#COMP_LINE}}; {function} tsn-hw; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    found = subprocess.run(
        ["bash", "--norc", "-c", ask], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert found.stderr == ""
    return found.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_commands_options_and_choices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "script").write_text(script("bash", capsys))
    names = {command.__name__ for group in COMMANDS.values() for command in group}
    assert names <= set(completed("tsn-hw", tmp_path))
    assert completed("tsn-hw hls net.tsn --masks", tmp_path) == ["deep", "runtime", "none"]
    assert completed("tsn-hw completion", tmp_path) == ["bash", "zsh", "fish"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_knows_every_command_and_its_options(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = script(shell, capsys)
    for group in COMMANDS.values():
        for command in group:
            assert command.__name__ in text
    for option in ("place-and-route", "device-file", "multithreshold", "json", "quiet"):
        assert option in text
    assert "--no-" not in text
