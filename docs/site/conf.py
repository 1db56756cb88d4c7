"""How Sphinx makes the site; `make site` gathers its pages first."""

from sphinx.application import Sphinx

from tsn_hw import __version__
from tsn_hw.app.reference.docstrings import process

project, author, release = "tsn-hw", "the tsn-hw authors", __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"tsn-hw {__version__}"
html_static_path: list[str] = []
html_copy_source = False
exclude_patterns = ["conf.py"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True

nitpick_ignore_regex = [  # in signatures: types of other packages, and those of ours that have no page
    ("py:(class|obj)", r"(brevitas|collections|dataclasses|dict|numpy|onnx|os|pathlib|torch|typing)\b.*"),
    ("py:class", r"(export|sim|tsn_hw)\..*"),
]


def setup(app: Sphinx) -> None:
    """Docstrings are written as plain text."""
    app.connect("autodoc-process-docstring", process)
