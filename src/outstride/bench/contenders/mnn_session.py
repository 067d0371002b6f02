"""MNN: a session over the converted layer, two-dimensional, at its high precision."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from outstride.bench.contenders import Form
from outstride.bench.contenders.onnx_graph import onnx_bytes
from outstride.bench.work import Work
from outstride.errors import UnsupportedError


def forms(name: str, work: Work, threads: int) -> Iterator[Form]:
    """One form: the input is copied into the session, the output stays in it."""
    del name
    mnn, case = import_module("MNN"), work.case
    if case is None or case.nd != 2:
        raise UnsupportedError("MNN is timed on two-dimensional layers")
    with tempfile.TemporaryDirectory() as folder:
        interpreter = mnn.Interpreter(_converted(onnx_bytes(work), Path(folder)))
    session = interpreter.createSession({"backend": "CPU", "numThread": threads, "precision": "high"})
    host = mnn.Tensor(
        tuple(work.input.shape),
        mnn.Halide_Type_Float,
        work.input.numpy(),
        mnn.Tensor_DimensionType_Caffe,
    )
    entry = interpreter.getSessionInput(session)
    shape = (case.batch, case.out_channels, *case.output_size)

    def run() -> Any:
        # A run may use the room of its input for something else, so the input is given to each anew.
        entry.copyFrom(host)
        return interpreter.runSession(session)

    def read(_: Any) -> tuple[Tensor, ...]:
        result = torch.empty(shape)
        into = mnn.Tensor(shape, mnn.Halide_Type_Float, result.numpy(), mnn.Tensor_DimensionType_Caffe)
        interpreter.getSessionOutput(session).copyToHostTensor(into)
        return (torch.from_numpy(into.getNumpyData().copy()).reshape(shape),)

    yield Form("NCHW", run, read)


def _converted(model: bytes, folder: Path) -> str:
    source, target = folder / "layer.onnx", folder / "layer.mnn"
    source.write_bytes(model)
    # The converter itself: the Python module around it installs packages and reports each use to its maker.
    convert = import_module("_tools").mnnconvert
    convert(["", "-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(target), "--bizCode", "layer"])
    if not target.is_file():
        raise UnsupportedError("MNN's converter refused this layer")
    return str(target)
