"""The numbers of every frame that the page shows are those of the definition, for layers drawn at random."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from outstride import ConvSpec, reference
from outstride.explanation.scene import in_cell
from outstride.studio.answers import ANSWERS
from tests.spec_strategies import conv_specs, pool_specs

#: Views in which an output is written once, and stays; in the others it grows, or is another tensor.
AT_ONCE = ("window", "zeros", "matrix", "phases")
GROWING = ("stamps", "short")


def by_definition(spec: ConvSpec, x: npt.NDArray[Any], w: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """One channel through the layer, in plain loops."""
    options: dict[str, Any] = {"stride": spec.stride, "padding": spec.padding, "dilation": spec.dilation}
    x, w = x[None, None], w[None, None]
    if spec.kind == "conv":
        made = reference.conv(x, w, padding_mode=spec.padding_mode, **options)
    elif spec.kind == "conv_transpose":
        made = reference.conv_transpose(x, w, output_padding=spec.output_padding, **options)
    else:
        if spec.kind == "avg_pool":
            options |= {
                "count_include_pad": spec.count_include_pad, "divisor_override": spec.divisor_override
            }  # fmt: skip
        mode: Any = spec.kind.removesuffix("_pool")
        made = reference.pool(x, spec.kernel_size, mode=mode, ceil_mode=spec.ceil_mode, **options)
    found: npt.NDArray[Any] = made[0, 0]
    return found


@given(
    spec=st.one_of(conv_specs(most=3), pool_specs(most=3)),
    sides=st.tuples(*[st.integers(1, 5)] * 3),
    seed=st.integers(0, 999),
)
@settings(max_examples=40, deadline=None)
def test_every_frame_has_the_numbers_of_the_definition(
    spec: ConvSpec, sides: tuple[int, ...], seed: int
) -> None:
    size, draws = sides[: spec.nd], np.random.default_rng(seed)
    x = draws.integers(-9, 10, size).astype(float)  # a maximum of nothing is -inf
    w = draws.integers(-9, 10, spec.kernel_size)
    numbers = {"input": x.ravel().tolist(), "kernel": w.ravel().tolist()}
    question = {"layer": repr(spec), "size": "x".join(map(str, size)), "numbers": numbers}
    answer = ANSWERS["layer"](question)
    assume(bool(answer.get("views")))
    wanted = [in_cell(float(value)) for value in by_definition(spec, x, w).ravel()]
    assert [one["formula"].rpartition(" = ")[2] for one in answer["readings"]] == wanted
    for view in (name for name in answer["views"] if name in (*AT_ONCE, *GROWING)):
        scene = ANSWERS["layer"]({**question, "view": view})["scene"]
        frames = scene["frames"] if view in AT_ONCE else scene["frames"][-1:]
        seen = dict[int, str]()
        for frame in frames:
            shown = outputs(scene, frame)
            assert all(wanted[place] == text for place, text in shown.items()), view
            seen |= shown
        assert sorted(seen) == list(range(len(wanted))), view


def outputs(scene: dict[str, Any], frame: dict[str, Any]) -> dict[int, str]:
    """What a frame shows of the output, by the output's number; what is not made yet is left out."""
    found: dict[int, str] = {}
    for grid in frame["grids"]:
        known = scene["numbering"].get(grid["title"])
        if known is not None and known["of"] == "output":
            cells = zip(known["cells"], scene["texts"][grid["text"]], strict=True)
            found |= {place: text for place, text in cells if place >= 0 and text}
    return found
