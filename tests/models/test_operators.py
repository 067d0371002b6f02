"""What is known of torch's operators is right, stands once, and each kind says who has a rule for it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outstride.inspection.rules import RULES as INSPECTION
from outstride.models import operators
from outstride.models.call import Call
from outstride.models.operators import (
    creation,
    indexing,
    norms,
    padding,
    pointwise,
    pooling,
    products,
    recurrent,
    reductions,
    resizing,
    sampling,
    shuffling,
    unfolding,
    views,
)
from outstride.models.operators.describing import OPERATORS, describe, layer_of
from outstride.models.operators.reach import Reach, Window
from outstride.tiling.rules import RULES as TILING
from tests import ROOT
from tests.engine.launch.agreed import is_another_torch

SOURCE = ROOT / "src" / "outstride"
ROOMS = ("inspection", "tiling", "artifacts", "convert", "acceleration", "planning.py")
#: What describes no kind.
BESIDE = {"describing", "function_calls", "reach"}
KINDS = {
    kind
    for name in {entry.name for entry in iter_modules(operators.__path__)} - BESIDE
    for _, kind in inspect.getmembers(import_module(f"{operators.__name__}.{name}"), inspect.isclass)
    if kind.__module__ == f"{operators.__name__}.{name}" and is_dataclass(kind)
} - {resizing.Resize, norms.Norm}  # of which there are several
aten = torch.ops.aten

#: In a tiled run these need every pixel, and are made once for all tiles.
WITHOUT_TILES = {
    *(unfolding.Unfold, views.Reinterpret, views.Conjugate, views.ComplexToPairs, views.PairsToComplex),
    *(indexing.FlatRoll, indexing.Index, indexing.IndexSelect),
    *(reductions.Reduction, reductions.Scan, reductions.Sort),
    *(norms.RMSNorm, norms.GroupNorm, sampling.GridSample, creation.Unset, recurrent.Recurrence),
}
#: And these are written as others before.
REWRITTEN = {
    *(indexing.Split, indexing.Unbind, indexing.QuarterTurns),
    *(products.MatrixProduct, products.Linear, products.Attention),
}
#: What others are written as, and nothing that `check` meets.
WRITTEN = {products.ChannelProduct, products.MatrixProducts, recurrent.Recurrence}
#: Behind these, `check` says that it does not understand the operation.
WITHOUT_LINEAGE = {shuffling.ChannelShuffle, indexing.SliceScatter, pointwise.Fill, pointwise.Gate}


def test_each_kind_says_who_has_a_rule() -> None:
    assert set(INSPECTION) == KINDS - WITHOUT_LINEAGE - WRITTEN
    assert set(TILING) == KINDS - WITHOUT_TILES - REWRITTEN


#: What torch 2.6 has not.
LATER = {"aten._fused_rms_norm"}


def test_each_operator_is_torchs_or_ours() -> None:
    unknown = set()
    for name in OPERATORS:
        space, _, operator = name.partition(".")
        if not hasattr(getattr(torch.ops, space), operator):
            unknown.add(name)
    assert not unknown or (unknown <= LATER and is_another_torch())


def called(operator: Any, *args: Any, **kwargs: Any) -> Any:
    """The description of a call, which is made."""
    result = operator(*args, **kwargs)
    return describe(Call(operator, args, kwargs, (result,) if isinstance(result, Tensor) else tuple(result)))


X = torch.empty(2, 4, 8, 9, device="meta")
WEIGHT = torch.empty(6, 4, 3, 5, device="meta")


def windows(*axes: tuple[int, int, int, int]) -> tuple[Window, ...]:
    return tuple(Window(*axis) for axis in axes)


READ: dict[str, tuple[Any, Any]] = {
    "max_pool": (
        lambda: called(aten.max_pool2d_with_indices.default, X, [3, 2], [], [1, 0]),
        pooling.MaxPool(windows((3, 3, 1, 1), (2, 2, 0, 1))),
    ),
    "average_pool": (
        lambda: called(aten.avg_pool2d.default, X, [3], [2], 1, count_include_pad=False),
        pooling.AveragePool(windows((3, 2, 1, 1), (3, 2, 1, 1)), False, None),
    ),
    "constant_pad": (
        lambda: called(aten.constant_pad_nd.default, X, [1, -2, 3, 0], 2.5),
        padding.ConstantPad({3: (1, -2), 2: (3, 0)}, 2.5),
    ),
    "reflected": (
        lambda: called(aten.reflection_pad2d.default, X, [1, 2, 3, 0]),
        padding.BorderPad({3: (1, 2), 2: (3, 0)}, "reflect"),
    ),
    "linear": (
        lambda: called(aten.upsample_bilinear2d.default, X, [16, 27], False, 2.0, scales_w=3.0),
        resizing.LinearResize("linear", 2, False, (2.0, 3.0)),
    ),
    "nearest": (
        lambda: called(aten.upsample_nearest2d.default, X, [16, 27]),
        resizing.NearestResize("nearest", 2, False, (None, None)),
    ),
    "slice": (
        lambda: called(aten.slice.Tensor, X, -2, -5, 100, 2),
        indexing.Slice(2, range(3, 8, 2)),
    ),
    "slice_by_default": (lambda: called(aten.slice.Tensor, X), indexing.Slice(0, range(2))),
    "select": (lambda: called(aten.select.int, X, -1, -2), indexing.Select(3, 7)),
    "split": (lambda: called(aten.split.Tensor, X, 3, dim=-1), indexing.Split(3)),
    "roll": (lambda: called(aten.roll.default, X, [1, -2], [2, -1]), indexing.Roll(((2, 1), (3, -2)))),
    "roll_of_all": (lambda: called(aten.roll.default, X, [1]), indexing.FlatRoll()),
    "turned": (lambda: called(aten.rot90.default, X, -1, [-1, 2]), indexing.QuarterTurns(3, (3, 2))),
    "permute": (lambda: called(aten.permute.default, X, [0, -1, 1, 2]), views.Permute((0, 3, 1, 2))),
    "transpose": (lambda: called(aten.transpose.int, X, -1, 1), views.Permute((0, 3, 2, 1))),
    "t": (lambda: called(aten.t.default, X[0, 0]), views.Permute((1, 0))),
    "squeeze": (
        lambda: called(aten.squeeze.dims, X[:1, :, :1], [0, 1, -2]),
        views.Squeeze(frozenset({0, 2})),
    ),
    "unsqueeze": (lambda: called(aten.unsqueeze.default, X, -1), views.Unsqueeze(4)),
    "as_bytes": (lambda: called(aten.view.dtype, X, torch.int32), views.Reinterpret()),
    "mean": (lambda: called(aten.mean.dim, X, [-1, 2], True), reductions.Mean((2, 3), True)),
    "sum_of_all": (lambda: called(aten.sum.default, X), reductions.Sum((0, 1, 2, 3), False)),
    "variance": (lambda: called(aten.var.correction, X, [1], keepdim=True), reductions.Deviation((1,), True)),
    "largest": (lambda: called(aten.max.dim, X, 1), reductions.Extremum((1,), False)),
    "larger": (lambda: called(aten.max.other, X, X), pointwise.Pointwise()),
    "largest_few": (lambda: called(aten.topk.default, X, 2), reductions.Sort(3)),
    "softmax": (lambda: called(aten._softmax.default, X, -3, False), reductions.Softmax(1)),
    "layer_norm": (
        lambda: called(aten.native_layer_norm.default, X, [8, 9], None, None, 1e-5),
        norms.LayerNorm(X, None, None, 1e-5, 2, 72),
    ),
    "instance_norm": (
        lambda: called(aten._native_batch_norm_legit.no_stats, X, None, None, True, 0.1, 1e-5),
        norms.BatchNorm(X, None, None, 1e-5, training=True),
    ),
    "gate": (lambda: called(aten.glu.default, X, 1), pointwise.Gate(1)),
    "in_place": (lambda: called(aten.relu_.default, torch.empty_like(X)), pointwise.Pointwise()),
    "filled": (lambda: called(aten.new_full.default, X, [2], 3.0), creation.Filled(3.0)),
}


@pytest.mark.parametrize("name", READ)
def test_arguments_read_as_torch_takes_them(name: str) -> None:
    described, expected = READ[name]
    found = described()
    assert type(found) is type(expected)
    assert parts(found) == parts(expected)


def parts(description: Any) -> list[Any]:
    """What a description says: lists ask no tensor whether it equals itself, as descriptions may."""
    return [getattr(description, part.name) for part in fields(description)]


def test_a_convolution_reads_the_same_from_torch_and_from_us() -> None:
    torchs = called(aten.convolution.default, X, WEIGHT, None, [2, 1], [1, 2], [1, 1], False, [0, 0], 1)
    arguments = (X, WEIGHT, None, [2, 1], [1, 2], [4, 9], [1, 1], 1)
    ours = called(torch.ops.outstride.conv.default, *arguments)
    assert parts(torchs) == parts(ours)
    assert torchs.windows == windows((3, 2, 1, 1), (5, 1, 2, 1))
    assert torchs.weight is WEIGHT
    asking = called(torch.ops.outstride.conv.default, *arguments, "direct")
    assert (torchs.algorithm, asking.algorithm) == ("auto", "direct")
    assert parts(replace(asking, algorithm="auto")) == parts(ours)


def test_tensors_without_elements_do_not_count_in_a_row() -> None:
    found = called(aten.cat.default, [X, torch.empty(0, device="meta"), X], -1)
    assert found.axis == 3
    assert [tensor is X for tensor in found.tensors] == [True, True]


@pytest.mark.parametrize("transposed", [False, True])
def test_a_window_reads_from_its_first_tap_to_its_last(transposed: bool) -> None:
    window = Window(3, 2, 1, 3, transposed)
    reach: Reach = window.reach
    for start in range(8):
        read = [
            reach.jump * (q // reach.period) + tap
            for q in (start, start + 1)
            for tap in reach.taps[q % reach.period]
        ]
        first, last = window.reads(start, start + 2)
        assert first <= min(read)
        assert max(read) < last


def test_windows_that_follow_the_size_are_torchs() -> None:
    reach = pooling.AdaptivePool(1).reach(12, 8)
    assert reach.scale == Fraction(3, 2)
    x = torch.eye(12)[:, None]
    read = F.adaptive_avg_pool1d(x, 8)[:, 0].T != 0
    for q, row in enumerate(read):
        taps = [reach.jump * (q // reach.period) + tap for tap in reach.taps[q % reach.period]]
        assert row.nonzero().flatten().tolist() == taps


FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any], str]] = {
    "conv": (
        F.conv2d, (X, WEIGHT, None, 2), {"padding": 1},
        "Conv2d(4, 6, kernel_size=(3, 5), stride=(2, 2), padding=(1, 1), bias=False)",
    ),
    "conv_transpose": (
        F.conv_transpose2d, (X, WEIGHT.transpose(0, 1), None, 2, 0, 1), {},
        "ConvTranspose2d(4, 6, kernel_size=(3, 5), stride=(2, 2), output_padding=(1, 1), bias=False)",
    ),
    "max_pool": (
        torch.max_pool2d, (X, 3, 1), {},
        "MaxPool2d(kernel_size=3, stride=1, padding=0, dilation=1, ceil_mode=False)",
    ),
    "resize": (F.interpolate, (X,), {"scale_factor": 2, "mode": "bilinear"},
               "Upsample(scale_factor=2.0, mode='bilinear')"),
    "shuffle": (F.pixel_shuffle, (X, 2), {}, "PixelShuffle(upscale_factor=2)"),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_call_of_a_function_is_a_layer(name: str) -> None:
    function, args, kwargs, text = FUNCTIONS[name]
    assert repr(layer_of(function, args, kwargs)) == text


def test_what_is_no_layer_is_none() -> None:
    assert layer_of(F.interpolate, (X,), {"size": 4, "mode": "area"}) is None
    assert layer_of(F.pad, (X, (1, 1)), {}) is None
    assert layer_of(torch.add, (X, X), {}) is None


# Once.
def sources() -> Iterator[Path]:
    for room in ROOMS:
        path = SOURCE / room
        yield from (path,) if path.is_file() else sorted(path.rglob("*.py"))


FAMILIES = {"_ConvNd", "RNNBase", "_NormBase", "_BatchNorm", "_DropoutNd"}


def is_a_class_of_layers(node: ast.AST) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    kind = getattr(nn, name, None)
    return inspect.isclass(kind) and issubclass(kind, nn.Module) and kind not in (nn.Module, nn.Sequential)


def readings(text: str) -> list[str]:
    """Arguments by place or name, torch's schemas, families of layers, and classes listed by kind."""
    found: list[ast.expr] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and node.attr in {"argument", "_schema", *FAMILIES}:
            found.append(node)
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute):
            first = isinstance(node.slice, ast.Constant) and node.slice.value == 0  # the tensor itself
            if node.value.attr in ("args", "kwargs") and not first:
                found.append(node)
        elif isinstance(node, ast.Tuple):
            numbered = [e for e in node.elts if is_a_class_of_layers(e) and ast.unparse(e).endswith("d")]
            found += numbered[1:]
    return [f"line {node.lineno}: {ast.unparse(node)}" for node in found]


@pytest.mark.parametrize("path", list(sources()), ids=lambda path: str(path.relative_to(SOURCE)))
def test_only_models_reads_the_arguments_of_operators(path: Path) -> None:
    assert not readings(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "line",
    [
        "stride = call.args[3]",
        "every = node.kwargs['stride']",
        "stride = node.argument('stride')",
        "names = func._schema.arguments",
        "kinds = (nn.Conv1d, nn.Conv2d)",
        "isinstance(module, torch.nn.RNNBase)",
    ],
)
def test_what_reads_arguments_is_seen(line: str) -> None:
    assert readings(line)
