"""The checks of a case, each of which raises AssertionError in the words of `tests.tolerance`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.environments import computed_by
from tests.fuzz import placement
from tests.fuzz.drawn import Drawn, Setting
from tests.fuzz.results import (
    Drawing,
    Results,
    contracted,
    contraction_of,
    draw_operands,
    every_order,
    first_order,
    some_gradients,
)
from tests.guard import GuardedPages
from tests.operands import apply, terms, torch_opinion
from tests.poison import poison
from tests.roundings import longest_chain, scales
from tests.tolerance import assert_close_to_reference, assert_integers_equal, assert_same_bits

#: Columns that are left out of an input, one call after the other: sizes that come back, shrink and grow.
_LESS = (0, 1, 0, 3, 2)

#: Operands that need a gradient, where not all of them do.
_SUBSETS = (("input",), ("weight",), ("input", "weight"), ("weight", "bias"), ("input", "bias"))


def judge(drawn: Drawn) -> None:
    """Play a case and raise AssertionError where a law is broken."""
    with computed_by(drawn.case.algorithm):
        _judge_values(drawn)


def _judge_values(drawn: Drawn) -> None:
    """With an edge in guarded memory, the engine's own included."""
    if drawn.values == "empty":
        _empty(drawn)
        return
    judged = _placement if drawn.values == "special" else _judge
    edge = drawn.edge
    if edge is None:
        judged(drawn, draw_operands(drawn))
        return
    with GuardedPages() as pages:
        judged(drawn, draw_operands(drawn).map(lambda t: pages.copy(t, edge)))


def _judge(drawn: Drawn, drawing: Drawing) -> None:
    with _played(drawn.here):
        found = every_order(drawn.case, drawing)
    if drawn.values == "integers":
        _integers(drawn, drawing, found)
    else:
        _value(drawn, drawing, found)
    _bits(drawn, drawing, found)
    _batch(drawn, drawing, found)
    _sizes(drawn, drawing)
    _writes(drawn, drawing)


@contextmanager
def _played(setting: Setting) -> Iterator[None]:
    with poison(), setting.environment.entered():
        yield


def _value(drawn: Drawn, drawing: Drawing, found: Results) -> None:
    dtype = drawn.torch_dtype
    truth = contracted(drawn.case, drawing, torch_opinion)
    scale = contracted(drawn.case, drawing, lambda case, operands: scales(case, operands, dtype))
    for name, result in found.items():
        count = longest_chain(drawn.case, contraction_of(name), dtype)
        expected, magnitude = truth[name].numpy(), scale[name].numpy()
        assert_close_to_reference(result, expected, magnitude, count, drawn.torch_dtype, name)


def _integers(drawn: Drawn, drawing: Drawing, found: Results) -> None:
    truth = contracted(drawn.case, drawing, torch_opinion)
    for name, result in found.items():
        assert_integers_equal(result, truth[name].numpy(), drawn.torch_dtype, name)


def _bits(drawn: Drawn, drawing: Drawing, expected: Results) -> None:
    """Another instruction set, other threads and layouts, and the way without gradients change no bit."""
    for name in ("inference first", "inference again"):
        assert_same_bits(expected[name], expected["output"], name)
    other = drawing.laid_out(drawn.there)
    some = _SUBSETS[drawn.seed % len(_SUBSETS)]
    with _played(drawn.there):
        found = every_order(drawn.case, other)
        alone = some_gradients(drawn.case, other.operands, some)
    for name, result in found.items():
        assert_same_bits(result, expected[name], f"{name} ({drawn.there})")
    for name, result in alone.items():
        assert_same_bits(result, expected[name], f"{name} where only {' and '.join(some)} needs a gradient")


def _batch(drawn: Drawn, drawing: Drawing, expected: Results) -> None:
    """An element of the batch by itself is that of the whole."""
    if not drawn.case.batched or drawn.case.batch < 2:
        return
    n, o = drawn.seed % drawn.case.batch, drawing.operands
    one = replace(o, input=o.input[n : n + 1], grad_output=o.grad_output[n : n + 1])
    with _played(drawn.there):
        found = first_order(replace(drawn.case, batch=1), one)
    for name in ("output", "grad_input"):
        assert_same_bits(found[name], expected[name][n : n + 1], f"{name} of element {n} by itself")


def _sizes(drawn: Drawn, drawing: Drawing) -> None:
    """A layer that has run on other sizes and layouts gives what a new one gives."""
    o, layer = drawing.operands, replace(drawn.case, output_padding=(0,) * drawn.case.nd)
    if layer.padding_mode != "zeros" or layer.padding == "same":
        return
    weight = o.weight.clone()
    with _played(drawn.there), torch.no_grad():
        for less in _LESS:
            columns = o.input.shape[-1] - less
            sized = replace(layer, input_size=(*layer.input_size[:-1], columns))
            if columns < 1 or min(sized.out_spatial) < 1:
                continue
            part = o.input[..., :columns]
            expected = apply(layer, part, o.weight.clone(), o.bias)
            for x, how in ((part, "a part of its input"), (part.contiguous(), "a smaller input")):
                what = f"output of {columns} columns, {how}, after others"
                assert_same_bits(apply(layer, x, weight, o.bias), expected, what)


def _halves_exchanged(weight: Tensor) -> None:
    half = weight.shape[0] // 2
    weight.data[: 2 * half] = torch.cat([weight.data[half : 2 * half], weight.data[:half]])


#: Ways to write to a weight; all but the first raise no version.
_WRITES: dict[str, Callable[[Tensor], object]] = {
    "mul_": lambda w: w.mul_(2),
    "data.neg_": lambda w: w.data.neg_(),
    "data.mul_": lambda w: w.data.mul_(-2),
    "one element": lambda w: w.data.view(-1)[w.numel() // 2 :][:1].add_(1),
    "an output's weights": lambda w: w.data[-1].neg_(),
    "halves exchanged": _halves_exchanged,
    "memory": lambda w: w.as_strided((w.numel(),), (1,)).view(torch.uint8).numpy()[:2].fill(64),
    "data": lambda w: setattr(w, "data", w.data.flip(0).contiguous()),
}


def _writes(drawn: Drawn, drawing: Drawing) -> None:
    """After any write to a weight, by whatever means, the next call uses it."""
    o, weight = drawing.operands, drawing.operands.weight.contiguous().clone()
    with _played(drawn.there), torch.no_grad():
        apply(drawn.case, o.input, weight, o.bias)
        for how, write in _WRITES.items():
            write(weight)
            expected = apply(drawn.case, o.input, weight.clone(), o.bias)
            found = apply(drawn.case, o.input, weight, o.bias)
            assert_same_bits(found, expected, f"output after a write to the weight ({how})")


def _placement(drawn: Drawn, drawing: Drawing) -> None:
    """NaN and infinities arrive at the sums that they are terms of, and the others are what law 1 says.

    Those of a short layer may come from the direct chain.
    """
    operands = drawing.operands
    with _played(drawn.here):
        found = first_order(drawn.case, operands)
    wanted = placement.expected(drawn.case, operands)
    scale = scales(drawn.case, operands.map(placement.finite), drawn.torch_dtype)
    for name, result in found.items():
        of = contraction_of(name)
        expected, magnitude = wanted[of], scale[of]
        kinds = (("NaN", torch.isnan), ("+inf", torch.isposinf), ("-inf", torch.isneginf))
        for what, kind in kinds:
            _assert_same_places(kind(result), kind(expected), f"{what} in {name}")
        finite = expected.isfinite()
        known = torch.where(finite, expected, 0.0)
        kept = torch.where(finite, result, torch.zeros((), dtype=result.dtype))
        count = max(terms(drawn.case, of), longest_chain(drawn.case, of, drawn.torch_dtype))
        assert_close_to_reference(kept, known.numpy(), magnitude.numpy(), count, drawn.torch_dtype, name)


def _empty(drawn: Drawn) -> None:
    """Without an element or an output the layer answers as torch does: by a shape or by an error."""
    case, dtype = drawn.case, drawn.torch_dtype
    shape = case.input_shape if case.batched else case.input_shape[1:]
    x, weight = torch.zeros(shape, dtype=dtype), torch.zeros(case.weight_shape, dtype=dtype)
    theirs: Callable[..., Tensor] = getattr(F, f"{case.operator}{case.nd}d")
    last = {"output_padding": case.output_padding} if case.transposed else {}
    padding = tuple(low for low, _ in case.pads)
    wanted = _answer(
        lambda: theirs(
            x, weight, None, stride=case.stride, padding=padding, dilation=case.dilation, groups=case.groups,
            **last,
        )
    )  # fmt: skip
    if wanted is not None and 0 in wanted[-case.nd :] and x.numel():
        wanted = None  # an input with elements and no output is an error here, in every operator
    with _played(drawn.here):
        found = _answer(lambda: apply(case, x, weight, None))
    assert found == wanted, f"the size of the result of {shape} is {found}, torch's {wanted} (None: an error)"


def _answer(call: Callable[[], Tensor]) -> tuple[int, ...] | None:
    try:
        return tuple(call().shape)
    except (RuntimeError, ValueError):
        return None


def _assert_same_places(found: Tensor, wanted: Tensor, what: str) -> None:
    missing, surplus = int((wanted & ~found).sum()), int((found & ~wanted).sum())
    places = (found ^ wanted).nonzero()
    assert not len(places), (
        f"{what}: {missing} of {int(wanted.sum())} are missing, {surplus} are too many; first at "
        f"{tuple(places[0].tolist())}"
    )
