"""ONNX Runtime: a session with its input and output bound once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from outstride.bench.contenders import Form
from outstride.bench.contenders.onnx_graph import onnx_bytes
from outstride.bench.work import Work


def forms(name: str, work: Work, threads: int) -> Iterator[Form]:
    """One form: it knows no layout but NCHW at its doors, and reorders inside as it likes."""
    del name
    session, case = _session(onnx_bytes(work), threads), work.case
    assert case is not None
    output = torch.empty(case.batch, case.out_channels, *case.output_size)
    binding = session.io_binding()
    for bind, tag, tensor in ((binding.bind_input, "x", work.input), (binding.bind_output, "y", output)):
        bind(tag, "cpu", 0, tensor.numpy().dtype.type, list(tensor.shape), tensor.data_ptr())
    yield Form("bound", lambda: session.run_with_iobinding(binding), lambda _: (output,))


def any_length(name: str, work: Work, threads: int) -> Callable[[Tensor], Any]:
    """A session with open sizes, fed as its users feed it."""
    del name
    session = _session(onnx_bytes(work, any_length=True), threads)
    return lambda x: session.run(None, {"x": x.numpy()})


def _session(model: bytes, threads: int) -> Any:
    onnxruntime = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
