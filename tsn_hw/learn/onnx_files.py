"""A body from the ONNX file of another tool: what ``tsn-hw check`` judges, read by the same reader."""

from __future__ import annotations

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from tsn_hw.core.errors import BodyError
from tsn_hw.core.files import StrPath, read_bytes
from tsn_hw.learn.architectures import Architecture
from tsn_hw.learn.foreign import Foreign, read_foreign
from tsn_hw.learn.imported import Draft


def onnx_body(path: StrPath) -> Architecture:
    """The body of a float model in an ONNX file, without its weights; its last Gemm or MatMul is the head, left out.

    Raises FileError if the file cannot be read, BodyError with all that has no counterpart.
    """
    try:
        model = onnx.load_from_string(read_bytes(path))
    except DecodeError as error:
        raise BodyError(f"{path}: is no ONNX file, or damaged") from error
    found = read_foreign(model)
    if found.all_problems:
        told = "\n  - ".join(found.all_problems)
        raise BodyError(f"{path} cannot become a body:\n  - {told}")
    return body_of_foreign(found)


def body_of_foreign(found: Foreign) -> Architecture:
    """The body of a model that has been read and has no problems: all its layers but the head."""
    *body, _ = found.layers
    named = Architecture(
        found.input_shape,
        tuple(body),
        frozenset(body[index].name for index in found.normalized if index < len(body)),
        frozenset(layer.name for index, layer in enumerate(body) if index in found.unrectified),
    )
    draft = Draft()
    draft.layers = {described.name: described for described in named.settings().layers}
    return draft.build(found.input_shape)
