"""Draw the gallery and write its page: ``python docs/pictures/gallery.py``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from outstride.explanation.gallery import GALLERY, Exhibit, exhibits, save_gallery

HERE = Path(__file__).resolve().parent
PICTURES, PAGE = HERE / "gallery", HERE.parent / "gallery.md"


def page() -> str:
    """The page, a part for each section of the gallery."""
    return "\n".join([*_opening(), *(line for title in GALLERY for line in _section(title)), ""])


def _opening() -> Iterator[str]:
    yield "# The gallery"
    yield ""
    yield f"{len(exhibits())} animations with numbers in them, each from one line of PyTorch, by what this"
    yield "package computes. Orange is multiplied, green is made, grey is padding, cropped, or a zero put in"
    yield "between. Use them wherever you like. All at once, as SVG, GIF, PNG or pages to step through:"
    yield ""
    yield "```sh"
    yield "outstride explain --gallery pictures"
    yield "outstride explain --gallery pictures --format gif"
    yield "```"
    yield ""
    yield "Another size, another layer, one of your own, step by step: [a layer at work](guides/explain.md)."


def _section(title: str) -> Iterator[str]:
    yield ""
    yield f"## {title}"
    for name, exhibit in GALLERY[title].items():
        yield ""
        yield f"### {exhibit.title}"
        yield ""
        yield f"`{exhibit.line}` on {_size(exhibit)}. {exhibit.says}"
        yield ""
        yield f"![{exhibit.line} on {_size(exhibit)}, step by step](pictures/gallery/{name}.svg)"


def _size(exhibit: Exhibit) -> str:
    return " × ".join(map(str, exhibit.size)) + (" elements" if len(exhibit.size) == 1 else "")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the gallery and write its page.")
    parser.add_argument("--out", type=Path, default=PICTURES, help="folder for the pictures")
    chosen = parser.parse_args()
    made = save_gallery(chosen.out)
    if chosen.out == PICTURES:
        PAGE.write_text(page(), encoding="utf-8")
    print(f"{len(made)} drawn, {sum(path.stat().st_size for path in made) // 1024} KB")  # noqa: T201
