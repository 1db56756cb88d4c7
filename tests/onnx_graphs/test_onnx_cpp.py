"""The C++ of docs/deploy.md, as it stands there: compiled against onnxruntime's library, and the simulator's logits."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from export import write_onnx, write_onnx_shared
from sim import simulate
from tests.helpers.learning import commit_randomly, labels_of, model_of, pixels
from tsn_hw.learn.freezing import freeze

HEADERS = Path(os.environ.get("TSN_HW_ONNXRUNTIME_HEADERS", "/usr/include/onnxruntime"))
DOCUMENT = Path(__file__).parents[2] / "docs" / "deploy.md"

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here"),
    pytest.mark.skipif(
        not (HEADERS / "onnxruntime_cxx_api.h").is_file(),
        reason="no headers of onnxruntime here (Debian 13: apt-get install libonnxruntime-dev)",
    ),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The compiled example."""
    folder = tmp_path_factory.mktemp("cpp")
    (source,) = re.findall(r"```cpp\n(.*?)```", DOCUMENT.read_text(), re.S)
    (folder / "example.cpp").write_text(source)
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    (folder / "libonnxruntime.so.1").symlink_to(library)  # the name that programs ask for
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-isystem", str(HEADERS), f"-Wl,-rpath,{folder}"]
    command = ["g++", *flags, "example.cpp", "libonnxruntime.so.1", "-o", "example"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "example"


@pytest.mark.parametrize("write", [write_onnx, write_onnx_shared], ids=["complete", "shared"])
def test_the_program_of_the_documentation_gives_the_logits_of_the_simulator(program, tmp_path, write):
    model = model_of(banks=(0, 0, 0, 0))
    for task in range(4):
        commit_randomly(model, task, seed=task)
    net, images = freeze(model, labels_of(model)), pixels(model, 8).astype(np.uint8)
    write(net, tmp_path)
    told = [
        subprocess.run([program], cwd=tmp_path, input=image.tobytes(), capture_output=True, check=True).stdout
        for image in images
    ]
    logits = simulate(net, 3, images)
    assert told == [f"{' '.join(map(str, row))} class {row.index(max(row))}\n".encode() for row in logits.tolist()]
