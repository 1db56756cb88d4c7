"""A body from the ONNX file of another tool: what ``tsn-hw check`` judges, read by the same reader."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from tsn_hw.core.errors import BodyError, brief
from tsn_hw.core.files import StrPath, read_bytes
from tsn_hw.learn.architectures import Architecture
from tsn_hw.learn.foreign import read_foreign


def onnx_body(path: StrPath, *, pretrained: bool = False) -> Architecture:
    """The body of a float model in an ONNX file; its last Gemm or MatMul is the head, left out.

    ``pretrained`` takes its weights along, for a start from them and for the float network of the body.

    Raises FileError if the file cannot be read, BodyError with all that has no counterpart.
    """
    try:
        model = onnx.load_from_string(read_bytes(path))
    except DecodeError as error:
        raise BodyError(f"{path}: is no ONNX file, or damaged") from error
    try:
        if pretrained:
            onnx.load_external_data_for_model(model, str(Path(path).parent))
    except (onnx.checker.ValidationError, ValueError, OSError) as error:
        raise BodyError(f"{path}: its weights are not there: {brief(str(error))}") from error
    found = read_foreign(model, pretrained)
    if found.body is None:
        told = "\n  - ".join(found.all_problems)
        raise BodyError(f"{path} cannot become a body:\n  - {told}")
    return found.body
