"""A layer as a matrix: applied, transposed, sparse, as one of SciPy's and PyLops' operators."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator, cg, lsmr, lsqr

from outstride import ConvOperator, ConvSpec, accelerate, nn
from outstride.errors import ArgumentError, DTypeError, ShapeError, UnsupportedError
from outstride.linear.layer_map import LayerMap
from tests.asking import asked
from tests.cases import BY_ID, CASES, Case
from tests.environments import one_of
from tests.linear.operators import columns_of, dense, gaussian, operator_of, tensor
from tests.operands import definition, draw
from tests.tolerance import (
    assert_close_to_reference,
    assert_dot_equal,
    assert_integers_equal,
    assert_same_bits,
)

_CASES = [c for c in CASES if c.batch and c.batched]


_every_case = pytest.mark.parametrize("case", _CASES, ids=[c.id for c in _CASES])


_DTYPES = {"float32": torch.float32, "float64": torch.float64}
#: Every case in one of the types, always the same, and in the long run in the other.
_every_case_and_type = pytest.mark.parametrize(
    ("case", "dtype"),
    [
        pytest.param(
            c,
            dtype,
            id=f"{name}-{c.id}",
            marks=[] if name == one_of([*_DTYPES], c.id) else [pytest.mark.slow],
        )
        for c in _CASES
        for name, dtype in _DTYPES.items()
    ],
)


@_every_case_and_type
def test_the_operator_its_transpose_and_its_sparse_matrix_are_the_definitions_matrix(
    case: Case, dtype: torch.dtype
) -> None:
    operator, W = operator_of(case, "integers", dtype), dense(case)
    assert operator.shape == W.shape
    operands = draw(case, "integers", dtype)
    x, y = columns_of(operands.input), columns_of(operands.grad_output)
    for result, truth in (
        (operator.matmat(x), W @ x.astype(np.int64)),
        (operator.rmatmat(y), W.T @ y.astype(np.int64)),
        (operator.T @ y, W.T @ y.astype(np.int64)),
        (operator.T.rmatmat(x), W @ x.astype(np.int64)),
        (operator.to_sparse().toarray(), W),
        (operator.T.to_sparse().toarray(), W.T),
    ):
        assert_integers_equal(tensor(result), truth, dtype)


@_every_case
def test_the_layer_is_the_operator_and_its_offset(case: Case) -> None:
    operator = operator_of(case, "integers", torch.float64)
    x = columns_of(draw(case, "integers").input)
    truth = columns_of(definition(case, "integers", False)["output"])
    assert_integers_equal(tensor(operator @ x + operator.offset[:, None]), truth, torch.float64)


@_every_case_and_type
def test_dot_test_passes_everywhere(case: Case, dtype: torch.dtype) -> None:
    operator = operator_of(case, "reals", dtype)
    assert operator.dottest(draws=2, seed=case.seed)
    assert operator.H.dottest(seed=case.seed)


@_every_case
def test_the_transpose_is_a_layer_with_the_right_output_padding(case: Case) -> None:
    operator = operator_of(case, "reals", torch.float32)
    back = operator.T
    assert back.T is operator
    assert operator.H is back
    assert (back.input_shape, back.output_shape) == (operator.output_shape, operator.input_shape)
    assert (back.spec.kind == "conv") is case.transposed
    if max(o - s for o, s in zip(case.output_padding, case.stride, strict=True)) >= 0:
        with pytest.raises(UnsupportedError, match="'to_layer'"):
            back.to_layer()
        return
    y = draw(case, "reals", torch.float32).grad_output
    with torch.no_grad():
        x = back.to_layer()(y)
    assert tuple(x.shape[1:]) == back.output_shape
    assert_same_bits(tensor(columns_of(x)), tensor(back @ columns_of(y)))


def test_a_layer_comes_back_with_its_bias() -> None:
    layer = nn.Conv2d(2, 4, 3, stride=2, padding=((0, 1), (1, 2)), padding_mode="circular", groups=2)
    operator = ConvOperator(layer, (6, 7))
    again = operator.to_layer()
    x = torch.randn(2, 2, 6, 7)
    assert repr(again) == repr(layer)
    assert_same_bits(again(x), layer(x))
    assert operator.T.to_layer().bias is None


def test_less_padding_hides_the_windows_that_output_padding_opens() -> None:
    """Three outputs more than the stamps reach, and enough padding on the high side to give them up."""
    spec = ConvSpec("conv_transpose", (3,), dilation=4, padding=((1, 5),), output_padding=3)
    operator = ConvOperator(spec, 9, weight=[[[1, 2, 4]]])
    assert operator.T.spec == ConvSpec.parse("Conv1d(1, 1, 3, padding=((1, 2),), dilation=4, bias=False)")
    transpose = operator.to_sparse().toarray().T
    assert_integers_equal(tensor(operator.T.to_sparse().toarray()), transpose, torch.float64)
    assert operator.T.to_layer()(torch.zeros(1, 1, 14, dtype=torch.float64)).shape == (1, 1, 9)


def test_every_layer_of_torch_is_taken_as_it_is() -> None:
    torch.manual_seed(0)
    layers: list[tuple[torch.nn.Module, tuple[int, ...]]] = [
        (torch.nn.Conv1d(2, 4, 5, stride=2, padding=2, padding_mode="circular"), (15,)),
        (torch.nn.Conv2d(4, 6, 3, groups=2, padding="same", dilation=(2, 1)), (9, 8)),
        (torch.nn.Conv3d(1, 2, (1, 2, 3), stride=(1, 2, 2), bias=False), (3, 6, 7)),
        (torch.nn.ConvTranspose1d(2, 3, 4, stride=3, output_padding=2), (6,)),
        (torch.nn.ConvTranspose2d(4, 2, 4, stride=2, padding=1, groups=2), (5, 6)),
        (torch.nn.ConvTranspose3d(1, 2, 2, stride=2), (2, 3, 4)),
        (torch.nn.utils.parametrizations.spectral_norm(torch.nn.Conv2d(2, 3, 3)), (6, 7)),
    ]
    for layer, size in layers:
        layer.eval()
        operator = ConvOperator(layer, size)
        x = torch.randn(3, *operator.input_shape)
        with torch.no_grad():
            expected = layer.double()(x.double())
        result = operator @ columns_of(x) + operator.offset[:, None]
        matrix = abs(operator.to_sparse())
        magnitude = matrix @ np.abs(columns_of(x)) + np.abs(operator.offset)[:, None]
        terms = prod(operator.spec.kernel_size) * 4
        assert_close_to_reference(tensor(result), columns_of(expected), magnitude, terms, torch.float32)


def test_columns_are_a_batch_and_each_is_the_vector_alone() -> None:
    operator = operator_of(BY_ID["conv2d-reflect"], "reals", torch.float32)
    X = np.random.default_rng(0).standard_normal((operator.shape[1], 5)).astype(np.float32)
    for block, one in ((operator.matmat, operator.matvec), (operator.T.rmatmat, operator.T.rmatvec)):
        together = block(X)
        for j in range(5):
            assert_same_bits(tensor(together[:, j]), tensor(one(X[:, j])))


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16, np.bool_, np.complex64, np.complex128])
def test_a_vector_of_more_digits_keeps_them(kind: Any) -> None:
    operator = operator_of(BY_ID["conv2d-holes"], "reals", torch.float32)
    x = np.random.default_rng(0).standard_normal(operator.shape[1])
    x = (x + 1j * x[::-1]).astype(kind) if np.issubdtype(kind, np.complexfloating) else x.astype(kind)
    result = operator @ x
    matrix = operator.to_sparse().toarray()
    assert result.dtype == np.result_type(np.float32, kind)
    truth, magnitude = matrix.astype(np.float64) @ x, np.abs(matrix) @ np.abs(x)
    digits = torch.float32 if result.real.dtype == np.float32 else torch.float64
    for part in (np.real, np.imag):
        found = torch.tensor(part(result).astype(result.real.dtype))
        assert_close_to_reference(found, np.array(part(truth)), magnitude, 12, digits)


def test_vectors_may_be_read_only_strided_or_columns() -> None:
    operator = operator_of(BY_ID["transpose2d-reflect"], "reals", torch.float64)
    x = np.random.default_rng(0).standard_normal(operator.shape[1])
    expected = tensor(operator.matvec(x))
    frozen = x.copy()
    frozen.setflags(write=False)
    strided = np.repeat(x, 3)[::3]
    for same in (frozen, strided, x[::-1].copy()[::-1]):
        assert_same_bits(tensor(operator @ same), expected)
    assert_same_bits(tensor(operator.matvec(x[:, None])[:, 0]), expected)
    assert_same_bits(tensor((operator * 2.0 - operator) @ x), expected)
    with torch.autocast("cpu"):
        assert_same_bits(tensor(operator @ x), expected)
    assert x.flags.writeable
    assert (operator @ np.ones((len(x), 0))).shape == (operator.shape[0], 0)


def test_sizes_may_come_in_any_form_and_weights_under_any_default_device() -> None:
    layer = torch.nn.Conv2d(1, 2, 3)
    sizes: list[Any] = [(8, 9), [8, 9], torch.Size([8, 9]), np.array([8, 9]), iter((8, 9))]
    assert {ConvOperator(layer, size).shape for size in sizes} == {(2 * 6 * 7, 72)}
    with torch.device("meta"):
        operator = ConvOperator(ConvSpec("conv", (2,)), 3, weight=[[[1, 2]]], bias=[3])
        assert (operator @ np.ones(3) + operator.offset).tolist() == [6, 6]


def test_the_operator_keeps_its_weights_and_copies() -> None:
    layer = nn.Conv2d(2, 3, 3, stride=2, dtype=torch.float64)
    operator = ConvOperator(layer, (9, 8))
    x = np.random.default_rng(0).standard_normal(operator.shape[1])
    before = tensor(operator @ x)
    assert operator.T.dottest()
    with torch.no_grad():
        layer.weight.zero_()
    for one in (operator, copy.deepcopy(operator), pickle.loads(pickle.dumps(operator))):
        assert_same_bits(tensor(one @ x), before)


@pytest.mark.parametrize(
    ("held", "asked", "expected"),
    [
        (torch.float32, None, np.float32),
        (torch.float64, None, np.float64),
        (torch.bfloat16, None, np.float32),
        (torch.float16, np.float64, np.float64),
        (torch.float32, "float64", np.float64),
    ],
)
def test_dtype_is_the_weights_or_as_asked(held: torch.dtype, asked: Any, expected: Any) -> None:
    operator = ConvOperator(torch.nn.Conv1d(1, 2, 3).to(held), 8, dtype=asked)
    for one in (operator, operator.T, operator.offset, operator.to_sparse()):
        assert one.dtype == expected
    assert (operator @ np.ones(8, np.float32)).dtype == expected


def test_dot_test_fails_where_the_adjoint_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = ConvOperator(nn.Conv2d(2, 3, 3, padding=1, dtype=torch.float64), 6)
    right = LayerMap.backward

    def wrong(self: LayerMap, batch: torch.Tensor) -> torch.Tensor:
        result = right(self, batch)
        result[0, 0, 0, 0] += 1e-9
        return result

    monkeypatch.setattr(LayerMap, "backward", wrong)
    assert operator.dottest(raiseerror=False) is False
    with pytest.raises(AssertionError, match=r"<A x, y> = .* rounding explains"):
        operator.dottest()


def test_a_matrix_of_a_million_rows_is_there_in_seconds() -> None:
    operator = ConvOperator(nn.Conv2d(1, 1, 3, padding=1), 1024)
    start = time.perf_counter()
    matrix = operator.to_sparse()
    assert time.perf_counter() - start < 10
    assert matrix.shape == (2**20, 2**20)
    assert matrix.nnz == (3 * 1024 - 2) ** 2
    assert matrix.has_canonical_format
    assert matrix.indices.dtype == np.int32
    x = np.random.default_rng(0).standard_normal(2**20).astype(np.float32)
    truth = matrix.astype(np.float64) @ x
    assert_close_to_reference(tensor(operator @ x), truth, abs(matrix) @ abs(x), 9, torch.float32)


def test_scipys_solvers_invert_a_layer_that_can_be_inverted() -> None:
    torch.manual_seed(4)
    layer = nn.Conv2d(2, 9, 3, stride=2, padding=1, dtype=torch.float64)
    operator = ConvOperator(layer, (12, 10))
    condition = operator.condition_number()
    x = np.random.default_rng(0).standard_normal(operator.shape[1])
    with torch.no_grad():
        y = layer(tensor(x).view(1, *operator.input_shape)).numpy().ravel() - operator.offset
    tight = {"atol": 1e-15, "btol": 1e-15, "conlim": 0.0}
    solutions = {
        "lsmr": lsmr(operator, y, maxiter=2000, **tight)[0],
        "lsqr": lsqr(operator, y, iter_lim=2000, **tight)[0],
        "cg": cg(operator.T @ operator, operator.T @ y, rtol=1e-15, maxiter=2000)[0],
    }
    for name, found in solutions.items():
        # The normal equations square the condition number, and every solver here is one of them in disguise.
        magnitude = np.full_like(x, condition**2 * np.abs(x).max())
        assert_close_to_reference(tensor(found), x, magnitude, len(x), torch.float64, name)
    assert np.abs(operator.T @ y - x).max() > 0.5  # the transposed layer restores the size, not the values


def test_it_is_an_operator_of_scipys_among_others() -> None:
    operator = operator_of(BY_ID["conv2d-circular"], "reals", torch.float64)
    assert isinstance(operator, LinearOperator)
    assert aslinearoperator(operator) is operator
    x = np.random.default_rng(0).standard_normal(operator.shape[1])
    matrix = operator.to_sparse()
    assert sparse.issparse(matrix)
    magnitude = abs(matrix).T @ (abs(matrix) @ np.abs(x))
    product = (operator.H * operator) @ x
    assert_close_to_reference(tensor(product), matrix.T @ (matrix @ x), magnitude, 200, torch.float64)
    left, right = (tensor(operator @ x),) * 2, (tensor(x), tensor(product))
    assert_dot_equal(left, right, float(np.abs(x) @ magnitude), 200, torch.float64)


class TestPyLops:
    """PyLops takes the operator as one of its own."""

    @pytest.mark.parametrize("name", ["conv2d-reflect", "conv3d-mixed", "transpose2d-circular"])
    def test_its_dot_test_accepts_the_operator(self, name: str) -> None:
        pylops = pytest.importorskip("pylops")
        operator = operator_of(BY_ID[name], "reals", torch.float64)
        for flag in range(4):
            assert pylops.utils.dottest(operator, complexflag=flag, rtol=1e-9)
        wrapped = pylops.aslinearoperator(operator)
        assert isinstance(wrapped, pylops.LinearOperator)
        for flag in range(4):
            assert pylops.utils.dottest(wrapped, *wrapped.shape, complexflag=flag, rtol=1e-9)
        assert pylops.utils.dottest(wrapped.H, complexflag=0, rtol=1e-9)

    def test_its_solvers_and_its_operators_work_with_it(self) -> None:
        pylops = pytest.importorskip("pylops")
        blur = ConvOperator(ConvSpec("conv", (5, 5), padding=2), 16, weight=gaussian(5, 0.6))
        x = np.random.default_rng(0).standard_normal(256)
        A = pylops.LinearOperator(Op=blur)
        found = pylops.optimization.basic.cgls(A, blur @ x, np.zeros(256), niter=400, tol=0)[0]
        magnitude = np.full(256, blur.condition_number() ** 2 * np.abs(x).max())
        assert_close_to_reference(tensor(found), x, magnitude, 256, torch.float64)
        stacked = pylops.VStack([A, 0.1 * pylops.Laplacian((16, 16))])
        assert pylops.utils.dottest(stacked, rtol=1e-9)

    def test_where_both_have_the_operator_they_agree(self) -> None:
        pylops = pytest.importorskip("pylops")
        kernel = np.random.default_rng(0).standard_normal((3, 5))
        theirs = pylops.signalprocessing.Convolve2D((9, 8), kernel, offset=(1, 2))
        spec = ConvSpec("conv", (3, 5), padding=(1, 2))
        ours = ConvOperator(spec, (9, 8), weight=kernel[::-1, ::-1][None, None].copy())  # theirs flips
        x = np.random.default_rng(1).standard_normal(72)
        magnitude = abs(ours.to_sparse()) @ np.abs(x)
        # Theirs goes through the Fourier transform, whose error is spread over all outputs.
        assert_close_to_reference(
            tensor(theirs @ x), ours @ x, np.full(72, magnitude.max()), 72, torch.float64
        )


def refusals() -> Sequence[tuple[str, Any, type[Exception], str]]:
    conv, spec = torch.nn.Conv2d(2, 4, 3), ConvSpec("conv", (3, 3))
    weight = np.ones((4, 2, 3, 3))
    bad = torch.nn.Conv2d(2, 4, 3)
    torch.nn.init.constant_(bad.weight, float("nan"))
    return [
        (
            "no layer",
            lambda: ConvOperator(torch.nn.Linear(2, 2), 8),
            ArgumentError,
            "linear and have weights",
        ),
        ("text", lambda: ConvOperator("Conv2d(1, 1, 3)", 8), ArgumentError, "got str"),
        ("pooling", lambda: ConvOperator(torch.nn.MaxPool2d(2), 8), ArgumentError, "'layer' must be"),
        (
            "meta",
            lambda: ConvOperator(torch.nn.Conv2d(2, 4, 3, device="meta"), 8),
            ArgumentError,
            "'weight' must be known",
        ),
        ("nan", lambda: ConvOperator(bad, 8).singular_values(), ArgumentError, "finite weights"),
        ("lazy", lambda: ConvOperator(torch.nn.LazyConv2d(4, 3), 8), ArgumentError, "'weight' must be known"),
        ("no weight", lambda: ConvOperator(spec, 8), ArgumentError, r"\(out_channels, in_channels, 3, 3\)"),
        ("two weights", lambda: ConvOperator(conv, 8, weight=weight), ArgumentError, "must be left out"),
        ("other kernel", lambda: ConvOperator(spec, 8, weight=weight[..., :2]), ShapeError, "must fit"),
        ("flat weight", lambda: ConvOperator(spec, 8, weight=np.ones(3)), ShapeError, "must fit"),
        ("no channels", lambda: ConvOperator(spec, 8, weight=weight[:0]), ShapeError, "must fit"),
        ("bias", lambda: ConvOperator(spec, 8, weight=weight, bias=[1, 2]), ShapeError, r"legal: \(4,\)"),
        ("complex", lambda: ConvOperator(spec, 8, weight=weight * 1j), DTypeError, "real numbers"),
        ("too small", lambda: ConvOperator(conv, (8, 2)), ShapeError, "'input_size' must be large enough"),
        ("two sizes", lambda: ConvOperator(conv, (8, 8, 8)), ShapeError, "one entry per axis"),
        ("output_size", lambda: ConvOperator(conv, 8, output_size=6), ShapeError, "'output_size'"),
        ("half", lambda: ConvOperator(conv, 8, dtype=np.float16), DTypeError, "legal: float32, float64"),
        ("no dtype", lambda: ConvOperator(conv, 8, dtype="much"), DTypeError, "legal: float32, float64"),
        ("objects", lambda: ConvOperator(conv, 8) @ np.full(128, None), DTypeError, "'x' must hold"),
        ("long", lambda: ConvOperator(conv, 8) @ np.ones(128, np.longdouble), DTypeError, "'x' must hold"),
        ("length", lambda: ConvOperator(conv, 8) @ np.ones(127), ValueError, "[Dd]imension mismatch"),
        ("k", lambda: ConvOperator(conv, 8).singular_values(129), ArgumentError, "legal: 1 to 128"),
        ("which", lambda: ConvOperator(conv, 8).singular_values(1, "LM"), ArgumentError, "'which'"),
        (
            "tolerance",
            lambda: ConvOperator(conv, 8).singular_values(1, tolerance=0),
            ArgumentError,
            "above 0",
        ),
        ("draws", lambda: ConvOperator(conv, 8).dottest(draws=0), ArgumentError, "'draws'"),
        ("many", lambda: ConvOperator(conv, 200).singular_values(70000), UnsupportedError, "a quarter"),
        (
            "wide band",
            lambda: ConvOperator(torch.nn.Conv2d(64, 64, 3), 56).singular_values(1, "smallest"),
            UnsupportedError,
            "'which' must be 'largest'",
        ),
    ]


_REFUSALS = [pytest.param(*row[1:], id=row[0]) for row in refusals()]


@pytest.mark.parametrize(("call", "family", "words"), _REFUSALS)
def test_what_has_no_meaning_is_refused(call: Any, family: type[Exception], words: str) -> None:
    with pytest.raises(family, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["Conv2d", "ConvTranspose2d"])
def test_it_is_computed_by_what_the_layer_asks_for(name: str) -> None:
    layer = getattr(nn, name)(2, 3, 3, stride=2, algorithm="direct")
    stock = getattr(torch.nn, name)(2, 3, 3, stride=2)
    for asking, algorithm in (
        (layer, "direct"), (accelerate(stock, algorithm="direct"), "direct"), (accelerate(stock), "auto"),
        (stock, "auto"),
    ):  # fmt: skip
        operator = ConvOperator(asking, (6, 7))
        with asked() as names:
            operator @ np.ones(operator.shape[1])
            operator.T @ np.ones(operator.shape[0])
            operator.T.T @ np.ones((operator.shape[1], 2))
        assert set(names) == {algorithm}
        made = [operator.to_layer(), operator.T.to_layer(), operator.T.T.to_layer()]
        assert [each.algorithm for each in made] == [algorithm] * 3


def test_without_scipy_one_sentence_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['scipy'] = None\n"
        "import outstride, outstride.nn\n"
        "try: outstride.ConvOperator\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip().endswith("legal: pip install 'outstride[operator]'")
    assert done.stdout.count("\n") == 1
