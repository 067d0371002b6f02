"""Draw the pictures of the guide to ``explain``: ``python docs/pictures/explaining.py``."""

from __future__ import annotations

from pathlib import Path

from outstride import explain

HERE = Path(__file__).resolve().parent


def make() -> None:
    """One transposed layer in its views, and the products that outputs of a convolution share."""
    shown = explain("ConvTranspose2d(1, 1, 3, stride=2, padding=1)", (2, 2))
    for view in ("stamps", "zeros", "matrix"):
        shown.save(HERE / f"explain-{view}.gif", view, seconds=1.2)
    convolution = explain("Conv2d(1, 1, 3, padding=1)", (4, 4))
    convolution.save(HERE / "explain-short.gif", "short", seconds=2.4)


if __name__ == "__main__":
    make()
