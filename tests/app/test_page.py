"""The page that runs networks in a browser: the simulator's integers, by mouse, keyboard and file."""

import base64
import io
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sim.integer import Simulator
from tests.helpers.browser import browse, measure, needs_browser
from tests.helpers.networks import MASKS, Recipe, adversarial_inputs, random_network
from tests.helpers.tiny_run import finished_run
from tsn_hw.app.cli.main import main
from tsn_hw.app.page.write import render
from tsn_hw.core import artifact, container
from tsn_hw.core.network import PackedNetwork

KINDS = ("mlp", "conv", "residual", "alexnet", "depthwise", "resnet")
LEAST_INTEGERS = 10**5
VERSION_1 = Path(__file__).parents[1] / "cases/version1.tsn"
SCRIPT = """
const found = {layers: [], refused: []};
for (const {file, task, inputs} of asked.runs) {
  const net = openNetwork(bytesOf(file));
  const layers = (x) => runTask(net, task, x).slice(1).map(({name, values}) => [name, Array.from(values)]);
  found.layers.push(inputs.map(layers));
}
for (const file of asked.refused) {
  attempt(() => load(bytesOf(file), "bad.tsn"));
  found.refused.push(element("trouble").textContent);
}
const press = (key, shiftKey = false) => canvas.dispatchEvent(new KeyboardEvent("keydown", {key, shiftKey}));
const shown = () => {
  document.querySelectorAll("#layers details").forEach((each) => each.dispatchEvent(new Event("toggle")));
  return [...document.querySelectorAll("#layers pre")].map((each) => each.textContent.split(/\\s+/).map(Number));
};
let done = false;
(async () => {  // the browser's clock is virtual: it would not wait for a picture that another thread decodes
  for (let spun = 0; !done; await new Promise((go) => setTimeout(go, 5))) for (let i = 0; i < 3e6; i++) spun += i;
})();
(async () => {
  await take(new File([bytesOf(asked.digits)], "digits.tsn"));
  found.about = element("about").textContent;
  for (const key of ["ArrowRight", "ArrowDown", " ", "ArrowRight", " ", "ArrowLeft"]) press(key);
  found.drawn = shown();
  press(" ", true);
  found.rubbed = shown()[0];
  taskChoice.value = 1;
  taskChoice.dispatchEvent(new Event("change"));
  found.switched = [element("answer").textContent, shown()];
  await take(new File([bytesOf(asked.image)], "digit.png"));
  found.image = shown();
  await take(new File(["text"], "text.txt"));
  found.text = element("trouble").textContent;
  canvas.dispatchEvent(new PointerEvent("pointerdown", {buttons: 1, clientX: canvas.getBoundingClientRect().left + 1,
    clientY: canvas.getBoundingClientRect().top + 1}));
  found.stroke = shown()[0][0];
  done = true;
  document.body.appendChild(document.createElement("pre")).id = "found";
  element("found").textContent = JSON.stringify(found);
})();
"""


def base(data: bytes) -> str:
    return base64.b64encode(data).decode()


def recipe(number: int) -> Recipe:
    """Every kind of body with every width of activations; banks, masks and codebooks of every form."""
    return Recipe(
        kind=KINDS[number % 6],
        tasks=1 + 11 * (number % 2),
        banks=1 + number % 2,
        code_bits=((1, 8), (2, 4))[number % 2],
        centroid_bits=4 + number % 13,
        act_bits=(4, 8, 16)[number // 6 % 3],
        signed_input=number % 3 == 0,
        multipliers=number % 4 > 0,
        extremes=number % 5 == 0,
        density=(0.05, 0.3, 0.9)[number % 3],
        mask_kinds=MASKS,
        seed=number,
    )


def unknown_kind(net: PackedNetwork) -> bytes:
    header, parts = container.unpack(artifact.to_bytes(net))
    header["layers"][0]["kind"] = "Swish"
    return container.pack(header, parts)


@needs_browser
def test_a_page_computes_the_simulators_integers_and_does_what_a_person_asks(tmp_path: Path) -> None:
    cases = []
    for number in range(24):
        net = random_network(recipe(number))
        cases.append((net, len(net.tasks) - 1, adversarial_inputs(net, 5, seed=number)))
    digits = finished_run() / "net.tsn"
    picture = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    Image.fromarray(picture).save(png := io.BytesIO(), "png")
    damaged = bytearray(digits.read_bytes())
    damaged[-1] ^= 1
    asked = {
        "runs": [
            {"file": base(artifact.to_bytes(net)), "task": task, "inputs": x.reshape(len(x), -1).tolist()}
            for net, task, x in cases
        ],
        "refused": [*map(base, (VERSION_1.read_bytes(), damaged, unknown_kind(cases[0][0])))],
        "digits": base(digits.read_bytes()),
        "image": base(png.getvalue()),
    }
    page = tmp_path / "page.html"
    script = f"<script>const asked = {json.dumps(asked)};{SCRIPT}</script>"
    page.write_text(render("A page", None).replace("</body>", f"{script}</body>"))
    shown = browse(page, "--virtual-time-budget=20000")
    told = re.search(r'<pre id="found">(.*?)</pre>', shown.stdout, re.DOTALL)
    assert told is not None, shown.stderr[-2000:]
    found = json.loads(unescape(told[1]))
    count = 0
    for (net, task, x), images in zip(cases, found["layers"], strict=True):
        expected = Simulator(net, task).taps(x)
        for place, layers in enumerate(images):
            assert dict(layers) == {name: values[place].ravel().tolist() for name, values in expected.items()}
            count += sum(len(values) for _, values in layers)
    assert count > LEAST_INTEGERS
    assert found["refused"] == [
        "no .tsn file of version 2; of version 1 tsn-hw page FILE.tsn makes a page",
        "the file is damaged: its SHA-256 does not match",
        "layer 'fc0': kind Swish is not supported by this page",
    ]
    acted(found, artifact.load(digits), picture)


def acted(found: dict[str, Any], net: PackedNetwork, picture: np.ndarray) -> None:
    """What keyboard, choice, file and pointer did."""
    assert found["about"].startswith("digits.tsn: 2 tasks, ")
    drawn = np.zeros((1, 1, 8, 8), np.int64)
    drawn[0, 0, 1, 1:3] = 255
    assert found["drawn"] == layers_of(net, 0, drawn)
    drawn[0, 0, 1, 1] = 0
    assert found["rubbed"] == drawn.ravel().tolist()
    expected = layers_of(net, 1, drawn)
    assert found["switched"] == [f"class {net.tasks[1].classes[int(np.argmax(expected[-1]))]}", expected]
    assert found["image"] == layers_of(net, 1, picture[None, None])
    assert found["text"] == "text.txt: neither a .tsn file nor an image"
    assert found["stroke"] == 255


def layers_of(net: PackedNetwork, task: int, x: np.ndarray) -> list[list[int]]:
    taps = Simulator(net, task).taps(x)
    return [x.ravel().tolist(), *(values.ravel().tolist() for values in taps.values())]


@needs_browser
def test_the_page_of_a_run_fits_two_widths_and_opens_without_a_complaint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert main(["page", str(finished_run()), "-o", str(page), "--quiet"]) == 0
    assert capsys.readouterr().out == f"{page}: {page.stat().st_size:,} bytes; open it in a browser\n"
    first = page.read_bytes()
    assert main(["page", str(finished_run()), "-o", str(page), "--quiet"]) == 0
    assert page.read_bytes() == first
    shown = browse(page)
    assert ":CONSOLE" not in shown.stderr
    assert '<option value="1">2 (' in shown.stdout  # a test image, by its label
    for width in (390, 1280):
        found = measure(page, width)
        assert (found["outside"], found["scrollWidth"]) == ([], found["width"])
        assert (found["unreachable"], found["headings"]) == (0, ["H1", "H2", "H2", "H2"])
        assert found["smallestText"] >= 12


def test_a_page_without_a_network_asks_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["page", "--quiet"]) == 0
    assert "const given = null;" in Path("page.html").read_text()
    assert "http" not in re.sub("http-equiv", "", Path("page.html").read_text())
