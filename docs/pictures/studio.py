"""Take the pictures of the studio: ``python docs/pictures/studio.py``, with Chromium installed."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from tests.studio.browser import launched, served  # noqa: E402

from outstride.bench.targets import build  # noqa: E402
from outstride.studio.networks import Network  # noqa: E402

UP = "ConvTranspose2d(1, 1, 3, stride=2, padding=1)"
DOWN = "Conv2d(1, 1, 3, padding=1)"
#: For each picture the state in the link, the width and height of the window, and its light.
SHOTS = {
    "studio": (f"layer={UP}&size=3x3&view=stamps&step=4&mode=numbers&lang=en", 1440, 1120, "light"),
    "studio-dark": (
        f"layer={UP}&size=3x3&view=phases&step=11&mode=numbers&tab=pattern&lang=en",
        1440,
        1180,
        "dark",
    ),
    "studio-solver": (
        f"layer={UP}&size=3x3&view=zeros&step=7&mode=numbers&tab=solver&lang=en",
        1440,
        1180,
        "light",
    ),
    "studio-picture": (f"layer={UP}&size=3x3&mode=picture&step=0&lang=en", 1440, 1080, "light"),
    "studio-model": ("mode=model&lang=en", 1440, 1080, "light"),
    "studio-narrow": (f"layer={DOWN}&size=5x5&view=window&step=7&mode=numbers&lang=zh", 400, 850, "light"),
}


#: The picture that moves: its state without the step, the steps, the width and height of the window.
MOVING = (f"layer={UP}&size=3x3&view=stamps&mode=numbers&lang=en", range(10), 1440, 900)
#: Its width, colours and milliseconds a step; the last one stays.
WIDTH, COLOURS, PACE, LAST = 1080, 96, 900, 3000


def moving(browser: Any, link: str, path: Path) -> None:
    """A layer at work, step by step, as the page shows it."""
    state, steps, width, height = MOVING
    page = browser.new_page(viewport={"width": width, "height": height}, reduced_motion="reduce")
    frames = []
    for step in steps:
        page.goto(f"{link}#{state}&step={step}")
        page.wait_for_selector("html[data-ready=yes]")
        page.wait_for_timeout(2500 if step == 0 else 700)
        shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        frames.append(shot.resize((WIDTH, height * WIDTH // width), Image.Resampling.LANCZOS))
    page.close()
    palette = frames[-1].quantize(COLOURS)
    flat = [frame.quantize(COLOURS, palette=palette, dither=Image.Dither.NONE) for frame in frames]
    times = [PACE] * (len(flat) - 1) + [LAST]
    flat[0].save(path, save_all=True, append_images=flat[1:], duration=times, loop=0, optimize=True)


def make(out: Path = HERE) -> None:
    """Every picture, as the page stands when nothing moves any more."""
    model = Network("torchvision:resnet18", build("torchvision:resnet18")[0], (1, 3, 224, 224))
    model.described({})  # which takes a moment, once
    with launched() as browser, served(model=model) as link:
        for name, (state, width, height, light) in SHOTS.items():
            window = {"width": width, "height": height}
            page = browser.new_page(viewport=window, color_scheme=light, reduced_motion="reduce")
            page.goto(f"{link}#{state}")
            page.wait_for_selector("html[data-ready=yes]")
            page.wait_for_timeout(2500)
            page.screenshot(path=out / f"{name}.png")
            page.close()
        moving(browser, link, out / "studio.gif")


if __name__ == "__main__":
    make()
