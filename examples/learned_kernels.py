"""Train a small network on real photographs and look at the kernels that its first layer learns.

    python examples/learned_kernels.py --out pictures

The first layer is AlexNet's in small: 11 x 11 kernels over three colours, stride 4. The network learns to
tell from which of the photographs a patch was cut; the right quarter of each is held out. A minute on two
cores. The weights are saved too: ``outstride kernels learned_kernels.pt`` draws the same picture from them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from skimage import data
from sklearn.datasets import load_sample_image
from torch import Tensor

from outstride import kernels, nn
from training import Training, arguments, begin, save

STEPS, QUICK = 1500, 12
PATCH, BATCH = 67, 64
PHOTOS = ("astronaut", "chelsea", "coffee", "hubble_deep_field", "immunohistochemistry", "rocket", "retina")
SAMPLES = ("china.jpg", "flower.jpg")


@dataclass(frozen=True)
class Photos:
    """Every photograph (3, H, W), mean 0 and deviation 1; its right quarter is not learned from."""

    names: tuple[str, ...]
    pictures: tuple[Tensor, ...]

    def draw(self, batch: int, held_out: bool, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Patches (N, 3, PATCH, PATCH), mirrored at random, and the numbers of their photographs."""
        labels = random.integers(len(self.names), size=batch)
        patches = []
        for label in labels:
            picture = self.pictures[label]
            height, width = picture.shape[1:]
            border = width * 3 // 4
            first, last = (border, width - PATCH) if held_out else (0, border - PATCH)
            top, left = random.integers(height - PATCH + 1), random.integers(first, last + 1)
            patch = picture[:, top : top + PATCH, left : left + PATCH]
            patch = patch.flip(2) if random.integers(2) else patch
            # Less its own colour and contrast, or the network would learn colours and no shapes.
            patches.append((patch - patch.mean((1, 2), keepdim=True)) / (patch.std() + 0.1))
        return torch.stack(patches), torch.from_numpy(labels)


def photos() -> Photos:
    """The photographs that come with scikit-image and scikit-learn."""
    arrays = {name: getattr(data, name)() for name in PHOTOS}
    arrays |= {name.removesuffix(".jpg"): load_sample_image(name) for name in SAMPLES}
    pictures = []
    for array in arrays.values():
        picture = torch.from_numpy(np.ascontiguousarray(array[..., :3], np.float32)).permute(2, 0, 1)
        # Beyond this size a patch shows nothing but blur.
        picture = F.interpolate(picture[None], size=_fitted(picture), mode="bilinear", antialias=True)[0]
        pictures.append((picture - picture.mean()) / picture.std())
    return Photos(tuple(arrays), tuple(pictures))


def _fitted(picture: Tensor) -> tuple[int, int]:
    height, width = picture.shape[1:]
    factor = min(1.0, 400 / min(height, width))
    return round(height * factor), round(width * factor)


def network(classes: int) -> torch.nn.Sequential:
    """AlexNet's first two layers in small, and a linear one."""
    return torch.nn.Sequential(
        nn.Conv2d(3, 48, kernel_size=11, stride=4),
        torch.nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(48, 64, kernel_size=5, padding="same"),
        torch.nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        torch.nn.Flatten(),
        torch.nn.Dropout(0.5),
        torch.nn.LazyLinear(classes),
    )


def accuracy(model: torch.nn.Module, photos: Photos, random: np.random.Generator) -> float:
    """Share of held-out patches whose photograph is recognised."""
    model.eval()
    patches, labels = photos.draw(900, held_out=True, random=random)
    with torch.no_grad():
        return float((model(patches).argmax(1) == labels).float().mean())


def picture(layer: torch.nn.Module, before: Tensor, losses: list[float]) -> Figure:
    """The kernels as they were drawn, as they were learned, and the descent."""
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    axes = figure.subplots(1, 3)
    for ax, title, shown in ((axes[0], "before", before), (axes[1], "learned", layer)):
        ax.imshow(kernels(shown, columns=8).pixels, interpolation="nearest")
        ax.set_title(f"48 kernels of 11 x 11 x 3, {title}")
        ax.set_axis_off()
    axes[2].plot(losses, lw=0.5)
    axes[2].set_xlabel("step")
    axes[2].set_ylabel("cross-entropy")
    return figure


def main() -> None:
    """Train, report, draw, and save the weights."""
    given = arguments("Train a first layer on photographs and draw its kernels.", STEPS, QUICK)
    torch.manual_seed(given.seed)
    random = np.random.default_rng(given.seed)
    found, training = photos(), Training()
    model = network(len(found.names))
    first = model.get_submodule("0")
    assert isinstance(first, nn.Conv2d)
    model(torch.zeros(1, 3, PATCH, PATCH))
    # Small, so that what is drawn at random fades beside what is learned.
    with torch.no_grad():
        first.weight.mul_(0.3)
    before = first.weight.detach().clone()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9, weight_decay=4e-3)
    slower = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.03, given.steps + 1)

    def step(_: int) -> float:
        patches, labels = found.draw(BATCH, held_out=False, random=random)
        loss = F.cross_entropy(model(patches), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        slower.step()
        return loss.item()

    losses = training.run("photographs", given.steps, step)
    right = accuracy(model, found, random)
    print(f"held-out patches recognised: {right:.1%} (by chance {1 / len(found.names):.1%})")
    save(picture(first, before, losses), given.out / "learned_kernels.png")
    torch.save(model.state_dict(), given.out / "learned_kernels.pt")
    print(f"saved: {given.out / 'learned_kernels.pt'}")
    training.exit()


if __name__ == "__main__":
    begin(main)
