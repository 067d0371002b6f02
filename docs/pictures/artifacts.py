"""Draw the pictures of the guide to checkerboards and print its table: ``python docs/pictures/artifacts.py``.

Small networks learn to enlarge a photograph, each with another last layer, and are stopped early; what is
left of the pattern is measured on flat greys and on a part of the photograph that training never saw. About
two minutes on one core.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import get_data_path
from matplotlib.figure import Figure
from torch import Tensor, nn

from outstride import ConvSpec, artifacts
from outstride.artifacts import drawing
from outstride.artifacts.picture_files import read_picture
from outstride.output.files import write_whole

HERE = Path(__file__).resolve().parent
WIDTH, SHORT, LONG, SEEDS = 16, 60, 500, (0, 1, 2)
GREYS = torch.linspace(0.2, 0.9, 4).view(-1, 1, 1, 1).expand(4, 1, 24, 24)
SIDE = 192
"""Of the held-out square, divisible by every stride below."""


@dataclass(frozen=True)
class Contender:
    """A last layer, what is done before training and after it."""

    name: str
    stride: int
    layer: Callable[[], nn.Module]
    before: Callable[[nn.Module], object] = lambda layer: layer
    after: Callable[[nn.Module], nn.Module] = lambda model: model


def transposed(kernel: int, stride: int, padding: int = 0, more: int = 0) -> Callable[[], nn.Module]:
    return lambda: nn.ConvTranspose2d(WIDTH, 1, kernel, stride, padding, more)


def sub_pixel() -> nn.Module:
    return nn.Sequential(nn.Conv2d(WIDTH, 4, 3, padding=1), nn.PixelShuffle(2))


def resized(mode: str) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Upsample(scale_factor=2, mode=mode), nn.Conv2d(WIDTH, 1, 3, padding=1))


def with_last(change: Callable[[nn.Module, nn.Module], nn.Module]) -> Callable[[nn.Module], nn.Module]:
    def changed(model: nn.Module) -> nn.Module:
        assert isinstance(model, nn.Sequential)
        model[-1] = change(model, model[-1])
        return model

    return changed


def evened_on_flats(model: nn.Module, last: nn.Module) -> nn.Module:
    return artifacts.equalize_(last, features=artifacts.features(model, last, GREYS))


CONTENDERS = (
    Contender("k3 s2, the usual layer", 2, transposed(3, 2, 1, 1)),
    Contender("larger stride: k3 s3", 3, transposed(3, 3)),
    Contender("larger stride: k3 s4", 4, transposed(3, 4, 0, 1)),
    Contender("smaller kernel: k2 s2", 2, transposed(2, 2)),
    Contender("smaller kernel: k1 s2", 2, transposed(1, 2, 0, 1)),
    Contender("more padding: k3 s2 p2", 2, transposed(3, 2, 2, 1)),
    Contender("k4 s2: even overlap", 2, transposed(4, 2, 1)),
    Contender(
        "k3 s2, evened after training",
        2,
        transposed(3, 2, 1, 1),
        after=with_last(lambda _, one: artifacts.equalize_(one)),
    ),
    Contender("k3 s2, evened for flat greys", 2, transposed(3, 2, 1, 1), after=with_last(evened_on_flats)),
    Contender("k3 s2, kept even in training", 2, transposed(3, 2, 1, 1), before=artifacts.constrain_),
    Contender(
        "k3 s2, smoothed", 2, transposed(3, 2, 1, 1), after=with_last(lambda _, one: artifacts.smooth(one))
    ),
    Contender("k4 s2, begun by ICNR", 2, transposed(4, 2, 1), before=artifacts.icnr_),
    Contender("k4 s2, kept even in training", 2, transposed(4, 2, 1), before=artifacts.constrain_),
    Contender("sub-pixel", 2, sub_pixel),
    Contender("sub-pixel, begun by ICNR", 2, sub_pixel, before=artifacts.icnr_),
    Contender("sub-pixel, kept even in training", 2, sub_pixel, before=artifacts.constrain_),
    Contender("nearest neighbour and k3", 2, resized("nearest")),
    Contender("bilinear and k3", 2, resized("bilinear")),
)


@dataclass(frozen=True)
class Outcome:
    """Means over the seeds; ``flat`` is the pattern on greys, ``picture`` that in the held-out part, of 1."""

    overlap: str
    start: float
    flat: float
    picture: float
    ratio: float
    psnr_db: float


def photograph() -> Tensor:
    """Rear Admiral Grace Hopper's portrait (US Navy, public domain, from matplotlib) as (1, 1, H, W)."""
    picture = read_picture(Path(get_data_path()) / "sample_data" / "grace_hopper.jpg")
    grey = np.tensordot((0.299, 0.587, 0.114), picture, 1)
    return torch.from_numpy(grey).float()[None, None]


def parts(photo: Tensor) -> tuple[Tensor, Tensor]:
    """What is learnt from (the rest below), and the face that is not."""
    return photo[..., 360:, :], photo[..., 168 : 168 + SIDE, 150 : 150 + SIDE]


def like(found: Tensor, truth: Tensor) -> Tensor:
    """The middle of the truth, where a layer's padding has cut its output on both sides."""
    for axis in (2, 3):
        size = found.shape[axis]
        truth = truth.narrow(axis, (truth.shape[axis] - size) // 2, size)
    return truth


def train(contender: Contender, photo: Tensor, seed: int, steps: int = SHORT) -> tuple[nn.Module, float]:
    torch.manual_seed(seed)
    last = contender.layer()
    contender.before(last)
    start = artifacts.ripple(last).value
    model = nn.Sequential(nn.Conv2d(1, WIDTH, 5, padding=2), nn.PReLU(WIDTH), last)
    learnt, _ = parts(photo)
    patch = 24 * contender.stride
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    random = np.random.default_rng(seed)
    for _ in range(steps):
        rows = random.integers(0, learnt.shape[2] - patch, 8)
        columns = random.integers(0, learnt.shape[3] - patch, 8)
        truth = torch.cat(
            [learnt[..., r : r + patch, c : c + patch] for r, c in zip(rows, columns, strict=True)]
        )
        optimiser.zero_grad()
        found = model(F.avg_pool2d(truth, contender.stride))
        F.mse_loss(found, like(found, truth)).backward()
        optimiser.step()
    return contender.after(model.eval()), start


@torch.no_grad()
def judge(model: nn.Module, photo: Tensor, stride: int) -> tuple[float, float, float, float]:
    _, face = parts(photo)
    found = model(F.avg_pool2d(face, stride))
    truth = like(found, face)
    flat = model(GREYS)[..., 4 * stride : -4 * stride, 4 * stride : -4 * stride]
    measured = artifacts.measure(found, stride)
    pattern = float((flat - flat.mean((2, 3), keepdim=True)).square().mean().sqrt())
    return pattern, measured.amplitude, measured.ratio, float(-10 * F.mse_loss(found, truth).log10())


def overlap_of(layer: nn.Module) -> str:
    if isinstance(layer, nn.Sequential):
        return "even"
    found = artifacts.overlap(layer)
    if found.holes:
        return f"{found.holes:.0%} holes"
    return "even" if found.even else f"{found.counts.min()} to {found.counts.max()}"


def study(photo: Tensor, steps: int) -> dict[str, Outcome]:
    found = {}
    for one in CONTENDERS:
        runs = []
        for seed in SEEDS:
            model, start = train(one, photo, seed, steps)
            runs.append((start, *judge(model, photo, one.stride)))
        found[one.name] = Outcome(overlap_of(one.layer()), *(float(column) for column in np.mean(runs, 0)))
    return found


def table(found: dict[str, Outcome]) -> str:
    columns = (
        "last layer",
        "overlap",
        "ripple at the start",
        "pattern on greys",
        "pattern in picture",
        "PSNR dB",
    )
    lines = [f"| {' | '.join(columns)} |", "|---|---|---:|---:|---:|---:|"]
    for name, one in found.items():
        lines.append(
            f"| {name} | {one.overlap} | {one.start:.2f} | {one.flat:.4f} | {one.picture:.4f} | "
            f"{one.psnr_db:.1f} |"
        )
    return "\n".join(lines)


def save(figure: Figure, name: str) -> None:
    write_whole(HERE / f"artifacts-{name}.png", lambda beside: figure.savefig(beside, format="png", dpi=110))
    print(f"saved: artifacts-{name}.png")  # noqa: T201


def draw_maps() -> None:
    kinds = (
        "ConvTranspose2d(1, 1, 3, stride=2)",
        "ConvTranspose2d(1, 1, 4, stride=2)",
        "ConvTranspose2d(1, 1, 3, stride=4)",
        "ConvTranspose2d(1, 1, 4, stride=2, dilation=2)",
        "Conv2d(1, 1, 3, stride=2)",
    )
    save(drawing.draw_overlap([artifacts.overlap(ConvSpec.parse(kind)) for kind in kinds]), "overlap")


def draw_gradients() -> None:
    """What comes back through strided layers, and a survey of a model that goes down and up."""
    torch.manual_seed(0)
    k3, k4 = nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 8, 4, 2, 1)
    kinds = (
        ("Conv2d k3 s2", k3),
        ("two of them", nn.Sequential(k3, nn.Conv2d(8, 8, 3, 2, 1))),
        ("Conv2d k4 s2", k4),
        ("AvgPool2d(3, 2)", nn.AvgPool2d(3, 2)),
        ("k3 s2, evened", artifacts.equalize_(copy.deepcopy(k3))),
    )
    save(drawing.draw_ripple([(title, artifacts.ripple(layer)) for title, layer in kinds]), "gradient")
    model = nn.Sequential()
    for name, layer in (
        ("down", k3),
        ("deeper", k4),
        ("up_even", nn.ConvTranspose2d(8, 8, 4, 2, 1)),
        ("up_uneven", nn.ConvTranspose2d(8, 8, 3, 2, 1, 1)),
        ("up_icnr", artifacts.icnr_(nn.ConvTranspose2d(8, 8, 4, 2, 1))),
        ("resize", nn.Upsample(scale_factor=2, mode="bilinear")),
        ("sub_pixel", nn.Sequential(nn.Conv2d(8, 12, 3, padding=1), nn.PixelShuffle(2))),
    ):
        model.add_module(name, layer)
    save(drawing.draw_survey(artifacts.inspect(model)), "survey")


def draw_gains(photo: Tensor) -> None:
    model, _ = train(CONTENDERS[0], photo, 0)
    assert isinstance(model, nn.Sequential)
    trained, evened = model[-1], artifacts.equalize_(copy.deepcopy(model[-1]))
    layers = [("trained k3 s2", trained), ("evened", evened), ("smoothed", artifacts.smooth(trained))]
    save(drawing.draw_ripple([(title, artifacts.ripple(layer)) for title, layer in layers]), "ripple")
    save(drawing.draw_response(layers), "response")


def draw_faces(photo: Tensor) -> None:
    _, face = parts(photo)
    shown = []
    for name in (
        "k3 s2, the usual layer",
        "k3 s2, evened for flat greys",
        "k3 s2, smoothed",
        "bilinear and k3",
    ):
        one = next(contender for contender in CONTENDERS if contender.name == name)
        model, _ = train(one, photo, 0)
        with torch.no_grad():
            shown.append((name, model(F.avg_pool2d(face, 2))[0].numpy()))
    save(drawing.draw_spectrum(shown, 2), "spectrum")


def main() -> None:
    photo = photograph()
    draw_maps()
    draw_gradients()
    draw_gains(photo)
    draw_faces(photo)
    for steps in (SHORT, LONG):
        print(f"\nafter {steps} steps\n\n{table(study(photo, steps))}")  # noqa: T201


if __name__ == "__main__":
    main()
