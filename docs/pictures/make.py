"""Draw every picture of the tutorials: ``python docs/pictures/make.py``.

Each picture is drawn from what the package computes, so that it cannot say anything that the code does not.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOPICS = ("convolution", "learning", "transposed", "matrix", "upsampling", "trained")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Draw the pictures of the tutorials.")
    parser.add_argument(
        "topics", nargs="*", metavar="TOPIC", help=f"some of {', '.join(TOPICS)}; default: all"
    )
    parser.add_argument("--out", type=Path, default=HERE / "tutorials", help="folder for the pictures")
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.topics) - set(TOPICS)
    if unknown:
        parser.error(f"no such topic: {', '.join(sorted(unknown))}; legal: {', '.join(TOPICS)}")
    chosen.out.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(HERE))
    for topic in chosen.topics or TOPICS:
        import_module(topic).make(chosen.out)
        print(f"{topic}: drawn")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
