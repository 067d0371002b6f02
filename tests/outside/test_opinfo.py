"""Torch's own samples, error inputs and module inputs for the convolutions, run against this package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from outstride import functional, nn
from tests.tolerance import assert_close_to_reference, assert_same_numbers

pytest.importorskip("expecttest", reason="torch's test suites need it")
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_modules import module_db

_PREFIX = "nn.functional."
_NAMES = [f"conv{transpose}{nd}d" for transpose in ("", "_transpose") for nd in (1, 2, 3)]
_OPS = {op.name.removeprefix(_PREFIX): op for op in op_db if op.name.removeprefix(_PREFIX) in _NAMES}
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_operator = pytest.mark.parametrize("name", _NAMES)


def _samples(name: str, dtype: torch.dtype, requires_grad: bool = False) -> Iterator[Any]:
    torch.manual_seed(0)
    samples = list(_OPS[name].sample_inputs("cpu", dtype, requires_grad=requires_grad))
    assert len(samples) >= 8
    yield from samples


def _call(module: Any, name: str, sample: Any, change: Callable[[Tensor], Tensor] = lambda t: t) -> Tensor:
    changed = [change(a) if isinstance(a, Tensor) else a for a in (sample.input, *sample.args)]
    result: Tensor = getattr(module, name)(*changed, **sample.kwargs)
    return result


def test_every_operator_is_in_torchs_database() -> None:
    assert set(_OPS) == set(_NAMES)


@_operator
@pytest.mark.parametrize("dtype", _DTYPES, ids=str)
def test_opinfo_samples(name: str, dtype: torch.dtype) -> None:
    for sample in _samples(name, dtype):
        truth = _call(F, name, sample, lambda t: t.double())
        magnitude = _call(F, name, sample, lambda t: t.double().abs())
        terms = prod(sample.args[0].shape) + 1
        result = _call(functional, name, sample)
        assert_close_to_reference(result, truth.numpy(), magnitude.numpy(), terms, dtype, str(sample.kwargs))


@_operator
@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64], ids=str)
def test_opinfo_samples_of_other_dtypes_give_torchs_result(name: str, dtype: torch.dtype) -> None:
    if dtype == torch.int64 and dtype not in _OPS[name].dtypes:
        pytest.skip("torch has no integer convolution here")
    for sample in _samples(name, dtype):
        assert_same_numbers(_call(functional, name, sample), _call(F, name, sample))


@_operator
def test_opinfo_samples_have_exact_derivatives(name: str) -> None:
    for sample in _samples(name, torch.float64, requires_grad=True):
        inputs = [t for t in (sample.input, *sample.args) if isinstance(t, Tensor)]

        def convolve(*tensors: Tensor, kwargs: dict[str, Any] = sample.kwargs) -> Tensor:
            result: Tensor = getattr(functional, name)(*tensors, **kwargs)
            return result

        assert torch.autograd.gradcheck(convolve, inputs, fast_mode=True, check_forward_ad=True)
        if sum(t.numel() for t in inputs) <= 300:  # the second order of large samples takes minutes
            assert torch.autograd.gradgradcheck(convolve, inputs, fast_mode=True, check_fwd_over_rev=True)


@pytest.mark.parametrize("name", [n for n in _NAMES if "transpose" not in n])
def test_opinfo_error_inputs(name: str) -> None:
    errors = list(_OPS[name].error_inputs("cpu"))
    assert len(errors) >= 5
    refused = 0
    for error in errors:
        # What torch cannot do and this package can ("same" at any stride) is no error here.
        if "not supported for strided" in error.error_regex:
            assert _call(functional, name, error.sample_input).numel()
            continue
        with pytest.raises(error.error_type):
            _call(functional, name, error.sample_input)
        refused += 1
    assert refused >= 5


def _module_infos() -> list[Any]:
    served = set(nn.__all__)
    return [info for info in module_db if info.module_cls.__name__ in served]


def test_every_layer_is_in_torchs_module_database() -> None:
    assert {info.module_cls.__name__ for info in _module_infos()} == set(nn.__all__)


@pytest.mark.parametrize("info", _module_infos(), ids=lambda info: info.module_cls.__name__)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_moduleinfo(info: Any, training: bool) -> None:
    ours = getattr(nn, info.module_cls.__name__)
    inputs = info.module_inputs_func(
        info, device="cpu", dtype=torch.float64, requires_grad=True, training=training
    )
    assert inputs
    for given in inputs:
        made, called = given.constructor_input, given.forward_input
        if called is None:
            continue
        torch.manual_seed(0)
        stock = info.module_cls(*made.args, **made.kwargs).double().train(training)
        torch.manual_seed(0)
        layer = ours(*made.args, **made.kwargs).double().train(training)
        assert repr(layer) == repr(stock)
        expected = stock(*called.args, **called.kwargs)
        layer(*called.args, **called.kwargs)  # a lazy layer takes its shape from the first call
        layer.load_state_dict(stock.state_dict())
        result = layer(*called.args, **called.kwargs)
        assert isinstance(layer, getattr(torch.nn, type(layer).__name__))
        given_first = next(iter((*called.args, *called.kwargs.values())))
        _assert_like_torch(result, expected, layer, given_first)


def _assert_like_torch(result: Any, expected: Any, layer: Any, input: Tensor) -> None:
    if not hasattr(layer, "weight"):  # pooling runs torch's kernels
        for a, b in zip(result, expected, strict=True) if isinstance(result, tuple) else [(result, expected)]:
            assert_same_numbers(a, b)
        return
    bound = layer.weight.abs().max() * input.abs().max() * layer.weight.numel() + 1
    magnitude = bound.detach().expand_as(expected)
    terms = layer.weight.numel()
    assert_close_to_reference(
        result, expected.detach().numpy(), magnitude.numpy(), terms, torch.float64, repr(layer)
    )


@pytest.mark.parametrize("name", [n for n in nn.__all__ if "Conv" in n and "Lazy" not in n])
def test_initial_values_are_torchs(name: str) -> None:
    torch.manual_seed(5)
    stock = getattr(torch.nn, name)(4, 6, 3, groups=2)
    torch.manual_seed(5)
    layer = getattr(nn, name)(4, 6, 3, groups=2)
    for key, value in stock.state_dict().items():
        assert_same_numbers(layer.state_dict()[key], value)
