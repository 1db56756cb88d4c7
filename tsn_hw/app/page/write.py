"""The page that runs a network in the browser: fixed scripts, and the file of the network as it is."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tsn_hw import __version__
from tsn_hw.app.output import CommandResult, Note
from tsn_hw.core import artifact
from tsn_hw.core.files import read_bytes, write_atomically

NETWORK = "net.tsn"
SCRIPTS = ("file.js", "masks.js", "network.js", "page.js")
STYLE = Path(__file__).parent.parent / "output" / "page.css"
SAMPLES = 5
"""Test images of a task that a page brings along."""


def write_page(source: Path | None, out: Path | None) -> CommandResult:
    """Write the page of a .tsn file, of a run's folder with test images, or of no network, which it then asks for."""
    given, title = None, "A network in the browser"
    if source is not None:
        file = source / NETWORK if source.is_dir() else source
        net, data = artifact.load(file), artifact.renewed(read_bytes(file))
        samples = _samples(source) if source.is_dir() else {}
        title = f"{len(net.tasks)} tasks in one network"
        given = {"file": base64.b64encode(data).decode(), "name": file.name, "samples": samples}
    path = out or (Path("page.html") if source is None else file.with_name("page.html"))
    page = render(title, given).encode()
    write_atomically(path, page)
    return CommandResult(
        [Note(f"{path}: {len(page):,} bytes; open it in a browser")], {"file": str(path), "bytes": len(page)}
    )


def render(title: str, given: dict[str, Any] | None) -> str:
    """The page as text; ``given``: the network that it opens with."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    script = "\n".join(Path(__file__).with_name(name).read_text("utf-8") for name in SCRIPTS)
    json_text = json.dumps(given, sort_keys=True, separators=(",", ":")).replace("<", "\\u003c")
    return environment.get_template("page.html").render(
        title=title,
        version=__version__,
        style=Markup(STYLE.read_text("utf-8")),
        given=Markup(json_text),
        script=Markup(script),
    )


def _samples(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """By task: test images as the network reads them, each with its label."""
    from tsn_hw.app.learning.runs import RunFolder
    from tsn_hw.learn.data.inputs import integers

    run = RunFolder(folder)
    found = {}
    for number, task in enumerate(run.network.tasks):
        data = run.stream.task(number)
        images = integers(data.x_test[:SAMPLES], run.network.input).reshape(len(data.x_test[:SAMPLES]), -1)
        labels = [task.classes[label] for label in data.y_test[:SAMPLES]]
        found[str(number)] = [
            {"label": label, "integers": image.tolist()} for label, image in zip(labels, images, strict=True)
        ]
    return found
