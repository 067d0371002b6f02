"""What the tables of a report, their columns and those who are timed are called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: The tables, by the name of their file of layers or models.
TABLES = {
    "models": "Whole models",
    "layers": "Layers of real models",
    "more_layers": "Other real layers, which nothing was tuned on",
    "small_layers": "Small maps and tiny layers: what a call costs",
    "single_models": "Single models",
    "": "Single layers",
}
#: Who is timed; the contenders' own short names are those of narrow columns.
NAMES = {
    "outstride": "outstride",
    "outstride_channels_last": "outstride channels_last",
    "outstride_compile": "outstride compiled",
    "torch": "torch",
    "torch_channels_last": "torch channels_last",
    "torch_compile": "torch.compile",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "jax": "JAX",
    "mnn": "MNN",
}
#: How many times as fast: as torch as called; as the fastest of all others; as that of the column before.
OF_TORCH, OF_BEST, OF_THAT = "speed, torch = 1", "speed, fastest other = 1", "speed, that = 1"


def of_table(part: Mapping[str, Any]) -> str:
    """The title of what rows have in common: "Layers of real models: training steps"."""
    suite = TABLES.get(part["suite"], part["suite"])
    step = ": training steps" if part["training"] else ""
    dtype = "" if part["dtype"] == "float32" else f", {part['dtype']}"
    algorithm = "" if part["algorithm"] == "auto" else f", {part['algorithm']}"
    return f"{suite}{step}{dtype}{algorithm}"
