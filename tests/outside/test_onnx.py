"""ONNX's own cases for Conv and ConvTranspose, with their attributes written in ours.

Two sources in the onnx package: the node cases, whose expected arrays are written out by hand, and the models
that were exported from PyTorch with recorded inputs and outputs. onnx.reference is not asked: its
ConvTranspose is wrong for groups with a bias.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from outstride import functional, reference
from tests.tolerance import assert_close_to_reference

onnx = pytest.importorskip("onnx")
from onnx import numpy_helper  # noqa: E402  # only after the line that skips where onnx is missing
from onnx.backend.test.case import node as node_cases  # noqa: E402

Attributes = dict[str, Any]


@dataclass(frozen=True)
class Recorded:
    """One recorded call of an operator."""

    name: str
    operator: str
    attributes: Attributes
    inputs: tuple[np.ndarray, ...]
    expected: np.ndarray


def _node_cases() -> Iterator[Recorded]:
    # Collecting all 1900 node cases takes seconds; importing an operator's module registers its own.
    import_module("onnx.backend.test.case.node.conv")
    import_module("onnx.backend.test.case.node.convtranspose")
    for case in node_cases._NodeTestCases:
        (node, *others) = case.model.graph.node
        if node.op_type in ("Conv", "ConvTranspose") and not others:
            inputs, outputs = case.data_sets[0]
            yield Recorded(case.name, node.op_type, _attributes(node), tuple(inputs), outputs[0])


def _recorded_models() -> Iterator[Recorded]:
    data = Path(onnx.__file__).parent / "backend" / "test" / "data"
    for folder in sorted(data.glob("pytorch-*/test_*onv*")):
        model = onnx.load(str(folder / "model.onnx"))
        (node,) = model.graph.node
        known = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        given = [i.name for i in model.graph.input if i.name not in known]
        for place, name in enumerate(given):
            known[name] = _tensor(folder / "test_data_set_0" / f"input_{place}.pb")
        inputs = tuple(known[name] for name in node.input)
        expected = _tensor(folder / "test_data_set_0" / "output_0.pb")
        yield Recorded(
            f"{folder.parent.name}-{folder.name}", node.op_type, _attributes(node), inputs, expected
        )


def _tensor(path: Path) -> np.ndarray:
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)


def _attributes(node: Any) -> Attributes:
    found = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}


def ours(operator: str, attributes: Attributes, x: np.ndarray, w: np.ndarray) -> Attributes:
    """The arguments of `outstride.functional` that mean what the attributes of the node mean."""
    nd = x.ndim - 2
    step = tuple(attributes.get("strides", [1] * nd))
    dilation = tuple(attributes.get("dilations", [1] * nd))
    found: Attributes = {"stride": step, "dilation": dilation, "groups": attributes.get("group", 1)}
    wanted = attributes.get("output_shape")
    automatic = attributes.get("auto_pad", "NOTSET")
    uncovered = tuple(attributes.get("output_padding", [0] * nd))
    if wanted is not None:
        found["output_size"] = tuple(wanted[-nd:])
        totals = [
            s * (i - 1) + op + (k - 1) * d + 1 - o
            for s, i, op, k, d, o in zip(
                step, x.shape[2:], uncovered, w.shape[2:], dilation, wanted[-nd:], strict=True
            )
        ]
        found["padding"] = tuple(_shared(total, automatic == "SAME_UPPER") for total in totals)
        return found
    if operator == "ConvTranspose":
        found["output_padding"] = uncovered
    if automatic == "NOTSET":
        pads = attributes.get("pads", [0] * (2 * nd))
        found["padding"] = tuple(zip(pads[:nd], pads[nd:], strict=True))
    elif automatic == "SAME_LOWER":
        spatial = zip(step, x.shape[2:], w.shape[2:], dilation, strict=True)
        found["padding"] = tuple(_same_lower(operator, *axis) for axis in spatial)
    else:
        found["padding"] = {"VALID": "valid", "SAME_UPPER": "same"}[automatic]
    return found


def _shared(total: int, odd_at_the_end: bool) -> tuple[int, int]:
    """How ONNX cuts a total padding in two; a negative one extends the output, and only at its end."""
    low = total // 2 if odd_at_the_end else total - total // 2
    assert low >= 0, "no known case extends the output at its start"
    return low, max(total - low, 0)


def _same_lower(operator: str, s: int, i: int, k: int, d: int) -> tuple[int, int]:
    extent = (k - 1) * d + 1
    total = max(extent - s if operator == "ConvTranspose" else (-(-i // s) - 1) * s + extent - i, 0)
    return total - total // 2, total // 2


CASES = (*_node_cases(), *_recorded_models())


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_onnx_case(case: Recorded, dtype: torch.dtype) -> None:
    arguments = ours(case.operator, case.attributes, case.inputs[0], case.inputs[1])
    tensors = [torch.from_numpy(np.array(a)).to(dtype) for a in case.inputs]
    nd = tensors[0].dim() - 2
    name = "conv_transpose" if case.operator == "ConvTranspose" else "conv"
    result = getattr(functional, f"{name}{nd}d")(*tensors, **arguments)
    assert tuple(result.shape) == case.expected.shape
    # The expected arrays are float32, so float32 is as near as a float64 result can come to them.
    magnitude = getattr(reference, name)(*(np.abs(a) for a in case.inputs), **arguments)
    terms = prod(case.inputs[1].shape[2:]) * case.inputs[0].shape[1]
    assert_close_to_reference(result.float(), case.expected, magnitude, terms, torch.float32, case.name)


def test_onnx_cases_are_all_there() -> None:
    """A package that lost its cases would otherwise pass."""
    counted = {operator: sum(c.operator == operator for c in CASES) for operator in ("Conv", "ConvTranspose")}
    assert counted["Conv"] >= 6, counted
    assert counted["ConvTranspose"] >= 11, counted
    used: set[str] = set().union(*(c.attributes for c in CASES))
    assert {"auto_pad", "output_shape", "output_padding", "pads", "group", "dilations", "strides"} <= used


@pytest.mark.parametrize("size", [(5, 6), (7, 9)])
@pytest.mark.parametrize("kernel_size", [(2, 3), (4, 4)])
def test_onnx_same_lower_and_upper_mirror_each_other(size: Sequence[int], kernel_size: Sequence[int]) -> None:
    """SAME_LOWER is SAME_UPPER seen from the other end: no ONNX case covers it, the symmetry does."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(1, 2, *size, generator=generator, dtype=torch.float64)
    w = torch.randn(2, 2, *kernel_size, generator=generator, dtype=torch.float64)
    for operator, call in (("Conv", functional.conv2d), ("ConvTranspose", functional.conv_transpose2d)):
        attributes: Attributes = {"strides": [1, 1]} if operator == "Conv" else {"strides": [2, 3]}
        lower = ours(operator, {**attributes, "auto_pad": "SAME_LOWER"}, x.numpy(), w.numpy())
        upper = ours(operator, {**attributes, "auto_pad": "SAME_UPPER"}, x.numpy(), w.numpy())
        mirrored = call(x.flip(2, 3), w.flip(2, 3), **upper).flip(2, 3)
        name = "conv_transpose" if operator == "ConvTranspose" else "conv"
        magnitude = getattr(reference, name)(x.abs().numpy(), w.abs().numpy(), **lower)
        found = call(x, w, **lower)
        assert_close_to_reference(found, mirrored.numpy(), magnitude, 2 * prod(kernel_size), torch.float64)
