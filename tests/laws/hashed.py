"""Results that are constants of the package: what is hashed, from which numbers, and the table of the hashes.

A result is one sum in one order, so its bits are the same on every processor (law 4), and the table in
`hashes.json` says which they are. `test_hashes.py` compares under each instruction set; `ci/arm/run` does
so on an Arm processor that is emulated. ``python -m tests.laws.hashed`` says what differs, with ``--write``
the table is written; what to do where a hash must change is in CONTRIBUTING.md.

Operands are made of whole numbers by a recipe of their own, for the random numbers of a library may change:
element i of operand n is the finaliser of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom
number generators", OOPSLA 2014) of i + 1 + n * 2^32 times its odd constant, all modulo 2^64; the highest
bits, as many as the type has significant ones, count from -2 to 2.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import outstride
from outstride import functional
from outstride.engine import runtime
from outstride.engine.launch.steps.check import run_alone, steps_kernel
from outstride.engine.planner.steps import Step
from tests.cases import BY_ID, Case, case
from tests.cases.layer_case import CONV, TRANSPOSED
from tests.engine.planner.chains import IN_VECTORS, STEPS, chain_name, operands_for
from tests.environments import Environment
from tests.operands import Operands, arrange, run

TABLE = Path(__file__).with_name("hashes.json")
#: Results by their names, "operands" among them: all that they were made from, in one tensor.
Results = dict[str, Tensor]
Digests = dict[str, str]

_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
#: Of each type so many bits of a number, the sign among them, are held exactly.
_BITS = {torch.float64: 53, torch.float32: 24, torch.bfloat16: 8, torch.float16: 8}
_BYTES = {torch.float64: "<f8", torch.float32: "<f4", torch.bfloat16: "<i2", torch.float16: "<f2"}


def numbers(shape: tuple[int, ...], dtype: torch.dtype, operand: int) -> Tensor:
    """The elements of an operand, by the recipe."""
    count = int(np.prod(shape, dtype=np.int64))
    with np.errstate(over="ignore"):  # modulo 2^64
        mixed = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(operand << 32)) * np.uint64(_GOLDEN)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(_FIRST)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(_SECOND)
        mixed ^= mixed >> np.uint64(31)
    bits = _BITS[dtype]
    whole = (mixed >> np.uint64(64 - bits)).astype(np.int64) - (1 << (bits - 1))
    return torch.from_numpy(whole.astype(np.float64) / 2.0 ** (bits - 2)).reshape(shape).to(dtype)


#: Cases of the table that all laws run over: every kind of layer, dataflow, border and layout once.
_OF_THE_TABLE = """
conv1d-width-17 conv2d-channels-1-16 conv2d-channels-70-17 conv2d-channels-130-4 conv2d-channels-2-130
conv2d-pointwise-deep conv2d-kernel-3x5-stride-3x4 conv2d-holes conv2d-dilation-9x5 conv2d-regions
conv1d-dilation-20-beyond-a-vector conv2d-same-stride-2 conv2d-reflect conv2d-replicate conv2d-circular
conv2d-groups-deep conv2d-groups-fan-out-channels-last conv2d-depthwise-wide conv2d-depthwise-17
conv1d-depthwise-taps-5-steps conv3d-depthwise-steps conv3d-mixed conv3d-dilation-2 conv2d-channels-last
conv2d-unbatched tiny-hifigan-residual tiny-resnet-stem tiny-textcnn
transpose1d-width-9 transpose2d-channels-4-130 transpose2d-channels-130-2 transpose1d-kernel-odd-to-stride-5
transpose2d-kernel-is-stride-3x2 transpose2d-holes transpose2d-dilation-3-stride-2 transpose2d-output-size
transpose2d-reflect transpose2d-circular transpose2d-groups-deep transpose2d-depthwise-up-4
transpose2d-depthwise-17 transpose1d-depthwise-tiles transpose3d-mixed transpose3d-kernel-is-stride
transpose2d-channels-last tiny-fsrcnn-x3 tiny-istft tiny-nnunet
""".split()
#: Of these other types, too.
_NARROW = (
    "conv2d-channels-70-17 conv2d-depthwise-17 conv3d-mixed transpose2d-channels-4-130 tiny-fsrcnn-x3"
).split()
_WIDE = "conv2d-channels-70-17 conv2d-depthwise-wide transpose3d-mixed".split()
#: Layers that are computed by short algorithms as they come, and are not where "direct" is asked for; and
#: weight gradients of so many pixels, or cells, that they are summed in several parts.
SHORT = (
    case("short-conv1d-3", CONV, (37,), 3, (64, 64), padding=1),
    case("short-conv1d-3-dilated", CONV, (50,), 3, (128, 128), padding=3, dilation=3, batch=1),
    case("short-conv2d-3x3", CONV, (9, 11), 3, (16, 32), padding=1),
    case("short-conv2d-3x3-deep", CONV, (5, 6), 3, (130, 24), padding=1, batch=1),
    case("short-conv2d-5x5", CONV, (7, 10), 5, (64, 64), padding=2, batch=1),
    case("short-conv2d-3x3-in-parts", CONV, (21, 30), 3, (16, 32), padding=1, batch=1),
    case("short-conv2d-3x3-channels-last", CONV, (9, 11), 3, (24, 32), padding=1, layout="channels_last"),
    case("short-conv3d-3x3x3", CONV, (3, 4, 5), 3, (16, 32), padding=1, batch=1),
    case("short-transpose2d-3x3", TRANSPOSED, (7, 9), 3, (24, 32), padding=1, batch=1),
    case("short-transpose2d-5x5-stride-2", TRANSPOSED, (4, 5), 5, (64, 64), stride=2, padding=2, batch=1),
)
_IN_PARTS = (
    case("conv2d-in-parts", CONV, (40, 60), 3, (2, 3), padding=1, batch=1),
    case("conv2d-24-outputs-in-parts", CONV, (40, 60), 3, (2, 24), padding=1, batch=1),
    case("short-conv2d-3x3-in-more-parts", CONV, (33, 46), 3, (16, 32), padding=1, batch=1),
)


def _layer(layer: Case, dtype: torch.dtype) -> Results:
    """A layer's output and gradients."""
    batch = () if not layer.batched else (layer.batch,)
    shapes = (
        (*batch, *layer.input_shape[1:]), layer.weight_shape, (layer.out_channels,),
        (*batch, *layer.output_shape[1:]),
    )  # fmt: skip
    x, w, b, y = (numbers(shape, dtype, operand) for operand, shape in enumerate(shapes))
    drawn = Operands(x, w, b if layer.bias else None, y)
    made_from = torch.cat([t.flatten() for t in (x, w, b, y)])
    return {"operands": made_from, **run(layer, arrange(drawn, layer.layout, layer.weight_layout))}


def _linear(rows: int, features: tuple[int, int], dtype: torch.dtype) -> Results:
    """A linear layer's, likewise."""
    inner, outer = features
    shapes = ((rows, inner), (outer, inner), (outer,), (rows, outer))
    x, w, b, y = (numbers(shape, dtype, operand) for operand, shape in enumerate(shapes))
    made_from = torch.cat([t.flatten() for t in (x, w, b, y)])
    leaves = {n: t.requires_grad_() for n, t in zip(("input", "weight", "bias"), (x, w, b), strict=True)}
    output = functional.linear(x, w, b)
    grads = torch.autograd.grad(output, list(leaves.values()), y)
    found = {f"grad_{name}": grad for name, grad in zip(leaves, grads, strict=True)}
    return {"operands": made_from, "output": output.detach(), **found}


def _step(step: Step) -> Results:
    """What the code of a step makes of some numbers; whether torch has the same bits is asked elsewhere."""
    x = numbers((2, 4, 64), torch.float32, 0) * 4
    operands = operands_for((step,), x, numbers)
    made_from = torch.cat([t.flatten() for t in (x, *operands)])
    code = steps_kernel((step,), torch.float32)
    return {"operands": made_from, "output": run_alone(code, (step,), x, operands)}


def _hashed() -> dict[str, Callable[[], Results]]:
    """What is hashed, by its name."""
    found: dict[str, Callable[[], Results]] = {}
    layers = [(BY_ID[name], torch.float32) for name in _OF_THE_TABLE]
    layers += [(BY_ID[name], dtype) for name in _NARROW for dtype in (torch.bfloat16, torch.float16)]
    layers += [(BY_ID[name], torch.float64) for name in _WIDE]
    layers += [(layer, torch.float32) for layer in (*_IN_PARTS, *SHORT)]
    layers += [(SHORT[2], torch.bfloat16), (SHORT[2], torch.float16)]
    layers += [(replace(layer, algorithm="direct"), torch.float32) for layer in SHORT[2:5]]
    for layer, dtype in layers:
        words = [
            layer.id,
            str(dtype).removeprefix("torch."),
            *(["direct"] if layer.algorithm == "direct" else []),
        ]
        found[" ".join(words)] = partial(_layer, layer, dtype)
    for dtype in (torch.float32, torch.float64):
        found[f"linear {str(dtype).removeprefix('torch.')}"] = partial(_linear, 19, (130, 24), dtype)
    for step in (*STEPS, *IN_VECTORS, Step("gelu_by_series")):
        found[f"step {chain_name((step,))}"] = partial(_step, step)
    return found


HASHED = _hashed()


def digests(name: str) -> Digests:
    """The SHA-256 of the bytes of all results of one name, elements in order, little-endian."""
    return {result: _digest(tensor) for result, tensor in HASHED[name]().items()}


def _digest(tensor: Tensor) -> str:
    plain = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        plain = plain.view(torch.int16)
    return hashlib.sha256(plain.numpy().astype(_BYTES[tensor.dtype]).tobytes()).hexdigest()


def table() -> dict[str, Digests]:
    """What the table says, by name."""
    return {} if not TABLE.exists() else _read()["results"]


def _read() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))
    return content


def _everywhere() -> dict[str, Digests]:
    """The digests of everything under the instruction sets of this processor, which must agree."""
    found: dict[str, Digests] = {}
    for name in HASHED:
        made = []
        for instruction_set in runtime.available():
            with Environment.of(instruction_set, name).entered():
                made.append(digests(name))
        if any(other != made[0] for other in made):
            sys.exit(f"{name}: the instruction sets {', '.join(runtime.available())} do not agree")
        found[name] = made[0]
    return found


def _changed(found: Digests, expected: Mapping[str, str]) -> list[str]:
    """The results that have other hashes, of the same operands; of others they say nothing."""
    if found["operands"] != expected["operands"]:
        return []
    return [result for result in found if found[result] != expected.get(result)]


def main(arguments: list[str]) -> int:
    """Compare with the table, or write it; 1 where something differs."""
    parser = argparse.ArgumentParser("python -m tests.laws.hashed", description="The table of results.")
    parser.add_argument("--write", action="store_true", help="write the table anew")
    options = parser.parse_args(arguments)
    found, expected = _everywhere(), table()
    changed = {n: _changed(found[n], expected[n]) for n in found.keys() & expected.keys()}
    for name in sorted(found.keys() | expected.keys()):
        if name not in expected:
            print(f"{name}: not in the table")
        elif name not in found:
            print(f"{name}: in the table alone")
        elif changed[name]:
            print(f"{name}: other bits in {', '.join(changed[name])}")
        elif found[name] != expected[name]:
            print(f"{name}: made from other numbers")
    if not options.write:
        return int(found != expected)
    if any(changed.values()) and _read()["version"] == outstride.__version__:
        print(
            f"other bits are another version: raise '__version__', which is {outstride.__version__} as in "
            "the table; of a version that nobody has yet, take the lines out of the table and write it again"
        )
        return 1
    content = {"version": outstride.__version__, "results": found}
    TABLE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
