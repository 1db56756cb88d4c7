"""A real browser for the tests of pages: what it says on its console, and what it measures of a page."""

import json
import re
import shutil
import subprocess
import tempfile
from html import unescape
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: pages are not opened in a browser")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--window-size=1400,1000",
    "--enable-logging=stderr",
]
PROBE = """
<script>
addEventListener("load", () => {
  const all = (query) => [...document.querySelectorAll(query)];
  const inside = (element) => element.closest(".scroll, nav ul") !== null;
  const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const zoom = (svg) => svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
  const fontSize = (element) => parseFloat(getComputedStyle(element).fontSize) * zoom(element.ownerSVGElement);
  const root = document.documentElement;
  const found = {
    width: root.clientWidth,
    scrollWidth: root.scrollWidth,
    outside: all("body *").filter((e) => !inside(e) && e.getBoundingClientRect().right > root.clientWidth + 1)
      .map((e) => e.tagName + "." + e.className),
    images: all("img").length, drawings: all("svg").length,
    withoutText: all("img").filter((e) => !e.alt.trim() || !e.complete || !e.naturalWidth).length
      + all("svg").filter((e) => e.getAttribute("role") !== "img" || !e.getAttribute("aria-label").trim()).length,
    lost: all("a[href^='#']").map((e) => e.getAttribute("href").slice(1)).filter((id) => !document.getElementById(id)),
    unreachable: all(".scroll").filter((e) => e.scrollWidth > e.clientWidth && e.tabIndex !== 0).length,
    scrolling: all(".scroll").filter((e) => e.scrollWidth > e.clientWidth).length,
    firstFocus: all("a[href], summary, [tabindex='0']")[0].className,
    headings: all("h1, h2").map((e) => e.tagName),
    smallestText: Math.min(...all("main *").filter(hasText).map(fontSize).filter((size) => size > 0)),
  };
  parent.postMessage(JSON.stringify(found), "*");
});
</script>
"""
FRAME = """
<!DOCTYPE html><title>frame</title><pre id="probe"></pre>
<script>addEventListener("message", (event) => document.getElementById("probe").append(event.data))</script>
<iframe src="{page}" width="{width}" height="844" style="border:0"></iframe>
"""
"""A window of any width: the browser's own is never narrower than 500 pixels."""


def browse(page: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Open a page from disk, and print what its document became."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, *FLAGS, *flags, f"--user-data-dir={profile}", "--dump-dom", page.resolve().as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)


def console(page: Path) -> list[str]:
    """What the browser said about a page: errors, warnings, and requests that were refused."""
    return [line for line in browse(page).stderr.splitlines() if ":CONSOLE" in line or "ERR_" in line]


def measure(page: Path, width: int) -> dict[str, Any]:
    """Measures of a page in a window of some width: of a copy that may run the script that takes them."""
    with tempfile.TemporaryDirectory() as folder:
        copy, frame = Path(folder) / "page.html", Path(folder) / "frame.html"
        copy.write_text(re.sub(r'<meta http-equiv="Content-Security-Policy".*?>', "", page.read_text()) + PROBE)
        frame.write_text(FRAME.format(page=copy.name, width=width))
        dom = browse(frame).stdout
    found = re.search(r'<pre id="probe">(.+?)</pre>', dom, re.DOTALL)
    assert found is not None, dom[-2000:]
    measured: dict[str, Any] = json.loads(unescape(found[1]))
    return measured
