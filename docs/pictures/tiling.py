"""Ways to run a U-Net in tiles, side by side: ``python docs/pictures/tiling.py``, minutes on one core.

Each way runs in a process of its own, on one thread, and through the same engine, so that what differs is the
tiling. The table goes into the guide, between its marks, and the picture beside it. MONAI and Dask are left
out where they are not installed (``pip install monai "outstride[tiling]"``); the table says so.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from photograph import grey
from torch import Tensor, nn

from outstride import accelerate
from outstride.bench.markdown import cells, head
from outstride.bench.observations import settle
from outstride.output.files import write_whole
from outstride.tiling import tile_run, verify
from outstride.tiling.verifying import Verdict

HERE = Path(__file__).resolve().parent
GUIDE, PICTURE = HERE.parent / "guides" / "tiling.md", HERE / "tiling-seams.png"
BEGIN, END = "<!-- measured side by side -->", "<!-- end of what is measured side by side -->"
SIZE, TILE, AROUND, NOISE, STEPS = 1024, 256, 32, 0.1, 40
#: What a way took, and its result.
Measured = tuple[dict[str, float], Tensor]
GREY_LEVEL, LEAST, SHOWN = 1 / 255, 1e-6, 256
NORMS = {"batch": "batch norm", "instance": "instance norm"}


def block(inputs: int, outputs: int, norm: str) -> nn.Sequential:
    """Two convolutions, each with its norm."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        after = nn.BatchNorm2d(outputs) if norm == "batch" else nn.InstanceNorm2d(outputs, affine=True)
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), after, nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Four scales by max pooling and transposed layers; it estimates the noise of a grey picture."""

    def __init__(self, norm: str, channels: Sequence[int] = (16, 32, 64, 128)) -> None:
        super().__init__()
        pairs = list(pairwise(channels))
        self.down = nn.ModuleList(block(a, b, norm) for a, b in [(1, channels[0]), *pairs])
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in reversed(pairs))
        self.joined = nn.ModuleList(block(2 * a, a, norm) for a, _ in reversed(pairs))
        self.head = nn.Conv2d(channels[0], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y, kept = x, list[Tensor]()
        for layer in self.down:
            y = layer(F.max_pool2d(y, 2) if kept else y)
            kept.append(y)
        kept.pop()
        for up, joined in zip(self.up, self.joined, strict=True):
            y = joined(torch.cat([up(y), kept.pop()], 1))
        result: Tensor = x - self.head(y)
        return result


def noisy(size: int) -> tuple[Tensor, Tensor]:
    """The photograph, enlarged, with noise and without."""
    clean = grey(size, (0, 44, 512, 556))
    drawn = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    return clean + NOISE * drawn, clean


def trained(norm: str, steps: int) -> nn.Module:
    """A network that removes noise, trained for a moment, as this package serves it."""
    torch.manual_seed(0)
    model, (x, clean) = UNet(norm), noisy(512)
    served, optimiser = accelerate(model), torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(steps):
        places = torch.randint(512 - 64, (4, 2)).tolist()
        one, other = (torch.cat([p[..., i : i + 64, j : j + 64] for i, j in places]) for p in (x, clean))
        optimiser.zero_grad()
        F.mse_loss(served(one), other).backward()
        optimiser.step()
    return served.eval()


def by_hand(around: int) -> Callable[[nn.Module, Tensor], Tensor]:
    """Tiles cut with so many pixels around them, of which the results are cropped."""

    def run(model: nn.Module, x: Tensor) -> Tensor:
        result = torch.empty_like(x)
        height, width = x.shape[-2:]
        for top in range(0, height, TILE):
            for left in range(0, width, TILE):
                a, b = max(top - around, 0), min(top + TILE + around, height)
                c, d = max(left - around, 0), min(left + TILE + around, width)
                made = model(x[..., a:b, c:d])[..., top - a :, left - c :]
                result[..., top : top + TILE, left : left + TILE] = made[..., :TILE, :TILE]
        return result

    return run


def by_dask(model: nn.Module, x: Tensor) -> Tensor:
    """Blocks that share their neighbours' borders, in this thread."""
    from dask import array, config

    def run(part: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        result: np.ndarray[Any, Any] = model(torch.from_numpy(np.ascontiguousarray(part))).numpy()
        return result

    blocks = array.from_array(x.numpy(), chunks=(1, 1, TILE, TILE))
    depth, meta = {2: AROUND, 3: AROUND}, np.empty((0, 0, 0, 0), np.float32)
    made = array.map_overlap(run, blocks, depth=depth, boundary="none", meta=meta)
    with config.set(scheduler="synchronous"):
        return torch.from_numpy(made.compute())


def by_monai(overlap: float, mode: str) -> Callable[[nn.Module, Tensor], Tensor]:
    """Windows that overlap, averaged by a weight."""

    def run(model: nn.Module, x: Tensor) -> Tensor:
        from monai.inferers import sliding_window_inference  # type: ignore[import-not-found, unused-ignore]

        made: Tensor = sliding_window_inference(x, TILE, 1, model, overlap=overlap, mode=mode)
        return made

    return run


@dataclass(frozen=True)
class Way:
    """One way to run the model, and the package that it needs."""

    words: str
    run: Callable[[nn.Module, Tensor], Tensor]
    package: str = "torch"
    drawn: bool = True


WAYS = {
    "whole": Way("the whole at once", lambda model, x: model(x), drawn=False),
    "cut": Way("tiles by hand, nothing around", by_hand(0)),
    "cropped": Way(f"tiles by hand, {AROUND} pixels around, cropped", by_hand(AROUND)),
    "dask": Way(f"Dask `map_overlap`, depth {AROUND}", by_dask, "dask", drawn=False),
    "monai": Way("MONAI `sliding_window_inference`, its defaults", by_monai(0.25, "constant"), "monai"),
    "gaussian": Way("the same, overlap 0.5, Gaussian weights", by_monai(0.5, "gaussian"), "monai"),
    "tile_run": Way("`tile_run`", lambda model, x: tile_run(model, x, tile=TILE, progress=False)),
}


def measured(way: str, model: nn.Module, x: Tensor, out: Path) -> None:
    """Run one way here: its processor time and the memory that it took, and its result, in files."""
    with torch.inference_mode():
        WAYS[way].run(model, x[..., : 2 * TILE, : 2 * TILE].contiguous())  # kernels, imports
        settle()
        before, begin = resident_bytes("VmRSS"), time.process_time()
        result = WAYS[way].run(model, x)
        seconds = time.process_time() - begin
    grown = resident_bytes("VmHWM") - before
    np.save(out.with_suffix(".npy"), result.numpy())
    out.with_suffix(".json").write_text(json.dumps({"seconds": seconds, "bytes": grown}))


def resident_bytes(line: str) -> int:
    """What the system says of this process: VmRSS now, VmHWM at most."""
    for words in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if words.startswith(f"{line}:"):
            return 1024 * int(words.split()[1])
    raise SystemExit("the system does not say how much memory a process takes")


def apart(way: str, model: nn.Module, x: Tensor, folder: Path) -> Measured:
    """The same, in a process of its own, which begins with what this one has loaded."""
    out = folder / way
    process = get_context("fork").Process(target=measured, args=(way, model, x, out))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{WAYS[way].words} ended with {process.exitcode}")
    figures: dict[str, float] = json.loads(out.with_suffix(".json").read_text())
    return figures, torch.from_numpy(np.load(out.with_suffix(".npy")))


class Kept(nn.Module):
    """A model whose result is known."""

    def __init__(self, result: Tensor) -> None:
        super().__init__()
        self.result = result

    def forward(self, _: Tensor) -> Tensor:
        return self.result


def seams(result: Tensor, expected: Tensor) -> Verdict:
    """Where a result that was made before lies apart from the whole's."""
    return verify(lambda _: result, Kept(expected), expected)


def table(norm: str, found: Mapping[str, Measured]) -> Iterator[str]:
    """A line for each way: seams, time and memory."""
    whole, expected = found["whole"]
    size = expected.shape[-1]
    yield from head(
        f"a U-Net with {NORMS[norm]}, {size} x {size}, tiles of {TILE}", ":largest difference",
        "pixels off by a grey level or more", "time, whole = 1", "memory, MB",
    )  # fmt: skip
    for name, way in WAYS.items():
        if name not in found:
            yield cells(way.words, f"{way.package} is not installed", "", "", "")
            continue
        figures, result = found[name]
        verdict = seams(result, expected)
        off = int(((result - expected).abs() >= GREY_LEVEL).sum())
        yield cells(
            way.words,
            "none: every bit agrees" if verdict else f"{verdict.largest:.2g}",
            f"{off / result.numel():.2%}" if off else "0",
            f"{figures['seconds'] / whole['seconds']:.2f}",
            f"{figures['bytes'] / 1e6:.0f}",
        )


def picture(results: dict[str, dict[str, Measured]]) -> Figure:
    """A row for each norm: how far each way lies from the whole, in each place the farthest pixel."""
    drawn = [
        name for name, way in WAYS.items() if way.drawn and all(name in found for found in results.values())
    ]
    figure = Figure(figsize=(2.6 * len(drawn) + 1, 5.8), layout="constrained")
    grid = figure.subplots(len(results), len(drawn), squeeze=False)
    for row, (norm, found) in zip(grid, results.items(), strict=True):
        expected = found["whole"][1]
        row[0].set_ylabel(NORMS[norm], fontsize=10)
        for axes, name in zip(row, drawn, strict=True):
            distance = F.adaptive_max_pool2d((found[name][1] - expected).abs(), SHOWN)[0, 0]
            largest = float(distance.max())
            shown = axes.imshow(
                distance.clamp(min=LEAST).log10(), cmap="magma", vmin=math.log10(LEAST), vmax=-0.5
            )
            said = f"off by up to {largest:.1g}" if largest else "every bit agrees"
            axes.set_title(
                f"{WAYS[name].words.replace('`', '')}:\n{said}".replace(", ", ",\n", 1), fontsize=8
            )
            axes.set_xticks([])
            axes.set_yticks([])
    bar = figure.colorbar(shown, ax=grid, shrink=0.8, ticks=range(-6, 0))
    bar.ax.set_yticklabels(["0", *(f"$10^{{{power}}}$" for power in range(-5, 0))])
    bar.set_label("distance from the whole (black is 0, white is 1)", fontsize=9)
    return figure


def make(size: int = SIZE, steps: int = STEPS, guide: Path = GUIDE, drawing: Path = PICTURE) -> None:
    """Measure every way that is installed, and write the table and the picture."""
    results: dict[str, dict[str, Measured]] = {}
    lines: list[str] = []
    torch.set_num_threads(1)  # one thread is measured, and a process with more cannot be forked
    x = noisy(size)[0]
    with tempfile.TemporaryDirectory() as beside:
        for norm, words in NORMS.items():
            model, found = trained(norm, steps), dict[str, Measured]()
            for name, way in WAYS.items():
                if find_spec(way.package) is not None:
                    print(f"{words}: {way.words}", file=sys.stderr)  # noqa: T201
                    found[name] = apart(name, model, x, Path(beside))
            results[norm] = found
            lines += [*table(norm, found), ""]
    text = guide.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"'{guide}' must hold the lines {BEGIN} and {END}")
    filled = f"{before}{BEGIN}\n" + "\n".join(lines) + f"{END}{after}"
    write_whole(guide, lambda path: path.write_text(filled, encoding="utf-8"))
    write_whole(drawing, lambda path: picture(results).savefig(path, dpi=110, format="png"))
    print("\n".join(lines))  # noqa: T201


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Ways to run a U-Net in tiles, side by side.")
    parser.add_argument("--size", type=int, default=SIZE, help="height and width of the picture")
    parser.add_argument("--steps", type=int, default=STEPS, help="of training")
    parser.add_argument("--guide", type=Path, default=GUIDE, help="the page that the table goes into")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="the file of the picture")
    chosen = parser.parse_args(arguments)
    if chosen.size < 2 * TILE or chosen.size % 8:
        parser.error(f"'--size' must be a multiple of 8, at least {2 * TILE}: got {chosen.size}")
    make(chosen.size, chosen.steps, chosen.guide, chosen.picture)


if __name__ == "__main__":
    main()
