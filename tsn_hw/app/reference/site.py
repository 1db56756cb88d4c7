"""Gather the pages of the site in one folder, where Sphinx finds them: python -m tsn_hw.app.reference.site FOLDER.

Documents and notebooks come from the checkout that is the working directory, the reference from the code.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import tempfile
from pathlib import Path

from tsn_hw.app.reference.notebooks import notebook_page
from tsn_hw.app.reference.pages import reference_pages

BESIDE = ("CONTRIBUTING.md", "CHANGELOG.md")
"""Documents that lie beside the folder docs."""
OUTSIDE = re.compile(r"\]\(\.\./")


def gather(root: Path, folder: Path, run: bool = True) -> list[Path]:
    """Write all pages into an empty folder; returns them. ``run``: notebooks too, else only their text."""
    for file in (*(root / "docs").glob("*.*"), *(root / "docs" / "site").glob("*.*")):
        if file.suffix == ".md":
            (folder / file.name).write_text(OUTSIDE.sub("](", file.read_text("utf-8")), "utf-8")
        else:
            shutil.copy(file, folder)
    for name in BESIDE:
        shutil.copy(root / name, folder)
    for name, text in reference_pages().items():
        (folder / f"{name}.md").write_text(text, "utf-8")
    for script in sorted((root / "examples" / "notebooks").glob("*.py")):
        with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
            page = notebook_page(script, folder, script.relative_to(root).as_posix(), run)
        (folder / f"{script.stem}.md").write_text(page, "utf-8")
    return sorted(folder.glob("*.md"))


if __name__ == "__main__":
    target = Path(sys.argv[1]).resolve()
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    pages = gather(Path.cwd(), target)
    print(f"{target}: {len(pages)} pages")
