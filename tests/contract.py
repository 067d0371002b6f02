"""The seven laws, each stated once: `verify_contract(case, law)` holds for every case of the table.

They are played by the direct chain or, in an environment in which all layers are short that can be, by short
algorithms; a law that is another for these says so.

Scratch, results and packed weights are full of NaN whenever the engine is handed them, so that what is read
before it is written shows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice, pairwise

import pytest
import torch
from torch import Tensor
from torch.autograd import profiler

from outstride.engine import runtime
from outstride.engine.launch import execute, gather
from outstride.layer.shortening import period
from tests.cases import LAYOUTS, Case
from tests.environments import THREADS, Environment, computed_by, threads
from tests.fuzz.results import Drawing, contracted, contraction_of, every_order
from tests.operands import (
    adjoint,
    apply,
    arrange,
    asked,
    contractions,
    definition,
    draw,
    run,
    torch_opinion,
)
from tests.order import in_the_one_order
from tests.poison import poison
from tests.roundings import GATHERS, drawn_scales, in_its_short_order, is_short, longest_chain, scales
from tests.tolerance import (
    assert_close_to_reference,
    assert_dot_equal,
    assert_integers_equal,
    assert_same_bits,
)

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def verify_contract(
    case: Case, law: str, dtype: torch.dtype = torch.float32, instruction_set: str | None = None,
    algorithm: str = "direct",
) -> None:  # fmt: skip
    """Assert that a case obeys one law; the laws are the keys of `LAWS`.

    With an instruction set its plans run, on as many threads as the law and the case are given.
    """
    with ExitStack() as stack:
        stack.enter_context(poison())
        stack.enter_context(computed_by(algorithm))
        if instruction_set is not None:
            stack.enter_context(Environment.of(instruction_set, law, case.id, dtype).entered())
        LAWS[law](replace(case, algorithm=algorithm), dtype)


def _value(case: Case, dtype: torch.dtype) -> None:
    values = "reals" if dtype in (torch.float32, torch.float64) else "short"
    found = run(case, arrange(draw(case, values, dtype), case.layout, case.weight_layout))
    truth, scale = definition(case, values, False), drawn_scales(case, values, dtype)
    for name, result in found.items():
        count = longest_chain(case, name, dtype)
        assert_close_to_reference(result, truth[name], scale[name], count, dtype, name)


def _value_by_torch(case: Case, dtype: torch.dtype) -> None:
    """The same, judged by float64 torch where loops would take minutes."""
    operands = draw(case, "short", dtype)
    truth, scale = torch_opinion(case, operands), scales(case, operands, dtype)
    for name, result in run(case, operands).items():
        expected, magnitude = truth[name].numpy(), scale[name].numpy()
        assert_close_to_reference(result, expected, magnitude, longest_chain(case, name, dtype), dtype, name)


def _integers(case: Case, dtype: torch.dtype) -> None:
    truth = definition(case, "integers", False)
    for name, result in run(case, draw(case, "integers", dtype)).items():
        assert_integers_equal(result, truth[name], dtype, name)


def _adjoint(case: Case, dtype: torch.dtype) -> None:
    values = "reals" if dtype in (torch.float32, torch.float64) else "short"
    case = replace(case, bias=False)
    operands = draw(case, values, dtype)
    x, y = operands.input, operands.grad_output
    magnitudes = drawn_scales(case, values, dtype)
    there, here = (torch.from_numpy(magnitudes[name]) for name in GATHERS)
    scale = max(float((there * y.double().abs()).sum()), float((here * x.double().abs()).sum()))
    count = max(longest_chain(case, name, dtype) for name in GATHERS)
    forward, back = apply(case, x, operands.weight, None), adjoint(case, y, operands.weight)
    assert_dot_equal((forward, y), (x, back), scale, count, dtype)


def _threads(case: Case, dtype: torch.dtype) -> None:
    operands = arrange(draw(case, "reals", dtype), case.layout, case.weight_layout)
    with threads(1):
        expected = run(case, operands)
    for count in THREADS[1:]:
        with threads(count):
            _assert_same_results(run(case, operands), expected, f"{count} threads")


def _layouts(case: Case, dtype: torch.dtype, share: int = 1) -> None:
    """Of so many layouts one, always the same for a case: each has kernels of its own."""
    drawn = draw(case, "reals", dtype)
    plain = run(case, drawn)
    others = [name for name in LAYOUTS if name != "expanded"]
    pairs = zip(others, others[1:] + others[:1], strict=True)
    for layout, weight_layout in islice(pairs, case.seed % share, None, share):
        found = run(case, arrange(drawn, layout, weight_layout))
        _assert_same_results(found, plain, f"{layout} input, {weight_layout} weight")
    for layout in islice(("expanded", "same_images"), case.seed % share, None, share):
        repeated = arrange(drawn, layout, layout)
        plain = run(case, repeated.map(lambda t: t.contiguous()))
        _assert_same_results(run(case, repeated), plain, f"{layout} input and weight")


def _quarter_of_the_layouts(case: Case, dtype: torch.dtype) -> None:
    _layouts(case, dtype, share=4)


def _batch(case: Case, dtype: torch.dtype) -> None:
    if not case.batched:
        return _unbatched(case, dtype)
    operands = draw(case, "reals", dtype)
    whole = run(case, operands)
    for n in {0, case.batch - 1} if case.batch else ():
        one = replace(operands, input=operands.input[n : n + 1], grad_output=operands.grad_output[n : n + 1])
        found = run(replace(case, batch=1), one)
        for name in ("output", "grad_input"):
            assert_same_bits(found[name], whole[name][n : n + 1], f"{name} of element {n} by itself")
    return None


def _unbatched(case: Case, dtype: torch.dtype) -> None:
    operands = draw(case, "reals", dtype)
    batch = replace(operands, input=operands.input[None], grad_output=operands.grad_output[None])
    whole = run(replace(case, batched=True), batch)
    expected = {k: v if k in ("grad_weight", "grad_bias") else v[0] for k, v in whole.items()}
    _assert_same_results(run(case, operands), expected, "without batch axis")


def _rounding(case: Case, dtype: torch.dtype) -> None:
    """A narrow dtype is the float32 result rounded once, so nothing else may differ."""
    operands = draw(case, "short", torch.float32)
    wide = run(case, operands)
    narrow = run(case, operands.map(lambda t: t.to(dtype)))
    _assert_same_results(narrow, {k: v.to(dtype) for k, v in wide.items()}, f"float32 rounded to {dtype}")


def _tile(case: Case, dtype: torch.dtype) -> None:
    """Part of the output, from the part of the input it needs, is the same part of the whole.

    By a short algorithm a part begins with a cell.
    """
    if case.padding_mode != "zeros" or not case.batched:
        return
    operands = draw(case, "reals", dtype)
    low = tuple(low for low, _ in case.pads)
    whole = contractions(case, operands)["output"]()
    for axis, size in enumerate(case.out_spatial):
        for start, stop in _tiles(size, _period(case, axis, dtype)):
            part, shifted = _needed(case, operands.input, axis, start, stop)
            pads = tuple(shifted if a == axis else p for a, p in enumerate(low))
            sizes = tuple(stop - start if a == axis else n for a, n in enumerate(case.out_spatial))
            call = execute.conv_transpose if case.transposed else execute.conv
            fixed = (case.dilation, case.groups, asked(case))
            found = call(part, operands.weight, operands.bias, case.stride, pads, sizes, *fixed)
            expected = whole.narrow(axis + 2, start, stop - start)
            assert_same_bits(found, expected, f"outputs {start}..{stop} of axis {axis}")


def _period(case: Case, axis: int, dtype: torch.dtype) -> int:
    """The outputs of an axis of which parts may begin with every so many."""
    if not is_short(case, "output", dtype):
        return 1
    numbers = (case.kernel_size, case.stride, tuple(low for low, _ in case.pads), case.dilation)
    return period(case.transposed, *(of_axes[axis] for of_axes in numbers))


def _tiles(size: int, step: int) -> list[tuple[int, int]]:
    """Parts of an axis that begin at multiples of a step."""
    cuts = sorted({0, 1, size // 2, size - 1, size} | {c for c in (16, 48) if c < size})
    half = {(0, size // 2), (size // 2, size)} if size > 1 else set()
    return sorted({(start // step * step, stop) for start, stop in {*pairwise(cuts), *half}})


def _order(case: Case, dtype: torch.dtype) -> None:
    """The bits are those of the order that the law writes down, not merely the same everywhere."""
    if case.padding_mode != "zeros" or not case.batched:
        return
    operands = draw(case, "reals", torch.float32)
    found = run(case, operands)
    if case.algorithm == "short":
        for name in filter(lambda name: is_short(case, name), GATHERS):
            expected = in_its_short_order(case, operands, name)
            assert_same_bits(found[name], torch.from_numpy(expected), f"{name} in the short order")
        return
    bias = None if operands.bias is None else operands.bias.numpy()
    expected = in_the_one_order(case, operands.input.numpy(), operands.weight.numpy(), bias)
    assert_same_bits(found["output"], torch.from_numpy(expected), "output in the one order")


def _needed(case: Case, x: Tensor, axis: int, start: int, stop: int) -> tuple[Tensor, int]:
    """The slice of the input that outputs start..stop of an axis read, and the padding it then has."""
    s, p, n = case.stride[axis], case.pads[axis][0], case.input_size[axis]
    reach = (case.kernel_size[axis] - 1) * case.dilation[axis]
    if not case.transposed:
        first, last = start * s - p, (stop - 1) * s - p + reach + 1
        low, high = min(max(first, 0), n), max(min(last, n), 0)
        return x.narrow(axis + 2, low, max(high - low, 0)), max(low - first, 0)
    low = max(0, min(-((reach - start - p) // s), (start + p) // s, n - 1))
    high = min(n, (stop - 1 + p) // s + 1)
    return x.narrow(axis + 2, low, max(high - low, 0)), p + start - low * s


def _closure(case: Case, dtype: torch.dtype, fast_mode: bool = False) -> None:
    """First and second derivatives, backward and forward, against finite differences."""
    operands = draw(case, "reals", torch.float64)
    leaves = [t.requires_grad_() for t in (operands.input, operands.weight, operands.bias) if t is not None]

    def function(*given: Tensor) -> Tensor:
        return apply(case, given[0], given[1], given[2] if len(given) == 3 else None)

    forward: dict[str, bool] = {
        "check_forward_ad": True,
        "check_undefined_grad": False,
        "fast_mode": fast_mode,
    }
    assert torch.autograd.gradcheck(function, leaves, **forward)
    second: dict[str, bool] = {
        "check_fwd_over_rev": True,
        "check_undefined_grad": False,
        "fast_mode": fast_mode,
    }
    grads = operands.grad_output.requires_grad_()
    assert torch.autograd.gradgradcheck(function, leaves, grads, **second)


def _closure_along_one_direction(case: Case, dtype: torch.dtype) -> None:
    _closure(case, dtype, fast_mode=True)


def _second_order(case: Case, dtype: torch.dtype) -> None:
    """Gradients, and gradients of gradients, are contractions again, and have their values."""
    operands = draw(case, "reals", dtype)
    other = draw(replace(case, id=f"{case.id}-directions"), "reals", dtype)
    drawing = Drawing(operands, other.input, other.weight)
    found, truth = every_order(case, drawing), contracted(case, drawing, torch_opinion)
    of_absolutes = contracted(case, drawing, lambda case, operands: scales(case, operands, dtype))
    for name, result in found.items():
        count = longest_chain(case, contraction_of(name), dtype)
        expected, scale = truth[name].numpy(), of_absolutes[name].numpy()
        assert_close_to_reference(result, expected, scale, count, dtype, name)


def _vmap(case: Case, dtype: torch.dtype) -> None:
    """vmap over inputs, weights, biases and all together is the loop over them."""
    drawn = [draw(replace(case, id=f"{case.id}-{n}"), "reals", dtype) for n in range(3)]
    names = ["input", "weight"] + ["bias"] * case.bias
    stacked = [torch.stack([getattr(o, name) for o in drawn]) for name in names]

    def function(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        return apply(case, x, w, b)

    for mapped in ({"input"}, {"weight"}, set(names)):
        dims = tuple(0 if name in mapped else None for name in names)
        given = [t if name in mapped else t[0] for name, t in zip(names, stacked, strict=True)]
        found = torch.func.vmap(function, in_dims=dims)(*given)
        loop = [
            function(*(t[n] if d == 0 else t for t, d in zip(given, dims, strict=True))) for n in range(3)
        ]
        assert_same_bits(found, torch.stack(loop), f"vmap over {sorted(mapped)}")


def _halo(case: Case, dtype: torch.dtype) -> None:
    """A number that is not finite arrives at exactly the elements whose sum it is a term of.

    A term is there where a tap reads an element: padding and the places between elements are none, so that
    nothing meets a zero of theirs. By a short algorithm it arrives as by the direct chain, to the sign of an
    infinity; with weights that are not finite the others are those of the direct chain, too. So may be those
    of weight gradients, of which neighbours share products.
    """
    operands = draw(replace(case, bias=False), "reals", dtype)
    clean, ones = run(case, operands), operands.map(torch.ones_like)
    direct = replace(case, algorithm="direct")
    directly = run(direct, operands) if case != direct else clean
    results = {
        "input": ("output", "grad_weight"), "weight": ("output", "grad_input"),
        "grad_output": ("grad_input", "grad_weight"),
    }  # fmt: skip
    for side, names in results.items():
        given: Tensor = getattr(operands, side)
        ends = (0, given.numel() - 1)
        places = sorted({case.seed % given.numel(), ends[case.seed % 2]}) if given.numel() else []
        for turn, place in enumerate(places, start=case.seed):
            number = (float("nan"), float("inf"))[turn % 2]
            indicator = torch.zeros_like(given)
            indicator.view(-1)[place] = 1.0
            reached = torch_opinion(replace(case, bias=False), replace(ones, **{side: indicator}))
            poisoned = given.masked_fill(indicator > 0, number)
            found = run(case, replace(operands, **{side: poisoned}))
            chained = run(direct, replace(operands, **{side: poisoned})) if case != direct else found
            for name in names:
                others = (directly if side == "weight" else clean)[name]
                if name == "grad_weight" and is_short(case, name, dtype):
                    others = torch.where(found[name] == directly[name], directly[name], others)
                spoiled = ~found[name].isfinite()
                assert_same_bits(
                    spoiled.to(dtype), (reached[name] > 0).to(dtype),
                    f"where {name} is not finite, with {number} at {place} of {side}",
                )  # fmt: skip
                assert_same_bits(
                    found[name].masked_fill(spoiled, 0), others.masked_fill(spoiled, 0),
                    f"{name} elsewhere, with {number} at {place} of {side}",
                )  # fmt: skip
                assert_same_bits(
                    found[name].masked_fill(~spoiled, 0), chained[name].masked_fill(~spoiled, 0),
                    f"{name} there, with {number} at {place} of {side}",
                )  # fmt: skip


def _sizes(case: Case, dtype: torch.dtype) -> None:
    """Law 6: once a layer has run, another size of it compiles nothing.

    By a short algorithm a size that has another padding, as "same" gives it, may be another layer.
    """
    run(case, draw(case, "reals", dtype))
    before = runtime.compilations()
    for growth in (1, 2, 16, 61) if case.nd == 1 else (1, 5, 16):
        grown = tuple(n + growth for n in case.input_size)
        other = replace(case, input_size=grown, output_size=None, batch=case.batch + 1 if case.batched else 1)
        if case.algorithm == "short" and other.pads != case.pads:
            continue
        run(other, draw(other, "reals", dtype))
        assert runtime.compilations() == before, (
            f"input_size={grown} compiled {runtime.compilations() - before} kernels "
            f"after {case.input_size} ran"
        )


def _instruction_sets(case: Case, dtype: torch.dtype) -> None:
    operands = arrange(draw(case, "reals", dtype), case.layout, case.weight_layout)
    best, *others = (Environment.of(name, "sets", case.id, dtype) for name in runtime.available())
    with best.entered():
        expected = run(case, operands)
    for other in others:
        with other.entered():
            _assert_same_results(run(case, operands), expected, f"{other} instead of {best}")


def _stores(case: Case, dtype: torch.dtype) -> None:
    """Law 4: results too large for the caches are stored in another way, and those of long rows by tiles."""
    operands = arrange(draw(case, "reals", dtype), case.layout, case.weight_layout)
    expected = run(case, operands)
    ways: dict[str, dict[str, float]] = {
        "nontemporal stores": {"problem.NONTEMPORAL_BYTES": 0, "arguments.NONTEMPORAL_ROW": 16},
        "stored by tiles, the next input prefetched": {
            "dataflows.pixels.LEAST_STORED": 0, "dataflows.pixels.MORE_TILES": float("inf"),
            "prefetch.CACHES_AT_HAND": 0,
        },
        "stored later, the next weights prefetched": {
            "dataflows.pixels.LEAST_STORED": sys.maxsize, "dataflows.pixels.LEAST_PREFETCHED_BYTES": 0,
        },
    }  # fmt: skip
    for how, changed in ways.items():
        with pytest.MonkeyPatch.context() as patch:
            for name, value in changed.items():
                patch.setattr(f"outstride.engine.planner.{name}", value)
            _forget_plans()
            found = run(case, operands)
        _forget_plans()
        _assert_same_results(found, expected, how)


def _forget_plans() -> None:
    for cache in (execute.CONTRACTIONS, gather.SIZE_CLASSES, gather.KERNELS, gather.PLANS):
        cache.clear()


def _no_fallback(case: Case, dtype: torch.dtype) -> None:
    """Law 7: where nothing is declined, neither torch's convolutions nor the definition compute a thing."""
    operands = arrange(draw(case, "reals", dtype), case.layout, case.weight_layout)
    with profiler.profile(use_cpu=True) as seen:
        run(case, operands)
    foreign = sorted({e.key for e in seen.key_averages() if e.key.startswith("aten::") and "conv" in e.key})
    assert not foreign, f"torch computed {foreign} for a layer that the engine serves"


def _assert_same_results(found: dict[str, Tensor], expected: dict[str, Tensor], how: str) -> None:
    assert found.keys() == expected.keys()
    for name, result in found.items():
        assert_same_bits(result, expected[name], f"{name} ({how})")


LAWS: dict[str, Callable[[Case, torch.dtype], None]] = {
    "value": _value,
    "value_by_torch": _value_by_torch,
    "integers": _integers,
    "adjoint": _adjoint,
    "closure": _closure,
    "closure_along_one_direction": _closure_along_one_direction,
    "second_order": _second_order,
    "vmap": _vmap,
    "threads": _threads,
    "layouts": _layouts,
    "quarter_of_the_layouts": _quarter_of_the_layouts,
    "batch": _batch,
    "rounding": _rounding,
    "tile": _tile,
    "order": _order,
    "instruction_sets": _instruction_sets,
    "stores": _stores,
    "halo": _halo,
    "sizes": _sizes,
    "no_fallback": _no_fallback,
}
