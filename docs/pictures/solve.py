"""Draw the pictures of the guide to the solver: ``python docs/pictures/solve.py``.

Every line, number and place is taken from the solver's own answers.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from outstride import geometry
from outstride.geometry import ChainSolution, Solution
from outstride.output.files import write_whole

HERE = Path(__file__).resolve().parent
INK, IN, OUT, BAD = "#222222", "#9ecae1", "#fdd0a2", "#cb181d"


def layers() -> list[Solution]:
    """The first answer and what is wrong with others, then the first answers to harder questions."""
    up = {"nd": 1, "input_size": 5, "output_size": 10}
    return [
        geometry.solve(**up)[0],
        geometry.solve(**up, kernel_size=2, dilation=1)[0],
        geometry.solve(**up, kernel_size=3, dilation=1)[0],
        geometry.solve(**up, kernel_size=3, dilation=2, stride=2)[0],
        geometry.solve(4, 12, nd=1)[0],
        geometry.solve(5, 16, nd=1, stride=4)[0],  # 65 -> 256 at a size that can be drawn
    ]


def draw_layer(axes: Axes, found: Solution) -> None:
    """Inputs above at the places they stand for, outputs below with their number of taps, and every tap."""
    (question,), (choice,) = found.questions, found.choices
    n, out, s = question.input_size, question.output_size, choice.stride
    places = [Fraction(2 * i - n + 1, 2) * s + Fraction(out - 1, 2) for i in range(n)]
    counts = [0] * out
    for i, place in enumerate(places):
        for tap in range(choice.kernel_size):
            u = i * s + tap * choice.dilation - choice.low
            if 0 <= u < out:
                counts[u] += 1
                axes.plot([float(place), u], [1.15, 0.45], color="#777777", lw=0.7, zorder=1)
        middle = i * s - choice.low + (choice.window - 1) / 2
        axes.plot([middle], [0.8], marker="v", ms=4, color=BAD if found.shift[0] else INK, zorder=4)
        box = (float(place) - s / 2, 1.15)
        axes.add_patch(Rectangle(box, s, 0.5, fc=IN, ec=INK, lw=0.8, zorder=2))
        axes.axvline(float(place), ymin=0.45, ymax=0.62, color=INK, lw=0.6, ls=":", zorder=3)
    for u, count in enumerate(counts):
        hole = count == 0
        axes.add_patch(
            Rectangle((u - 0.5, -0.05), 1, 0.5, fc="white" if hole else OUT, ec=INK, lw=0.8, zorder=2)
        )
        axes.text(
            u, 0.2, str(count), ha="center", va="center", fontsize=8, color=BAD if hole else INK, zorder=3
        )
    edge = min(-0.5, float(places[0]) - s / 2) - 0.6
    axes.set(xlim=(edge, out - 1 - edge), ylim=(-0.2, 1.8))
    axes.axis("off")
    even = "holes" if found.holes else "even" if found.even else "uneven"
    seams = "overlapping" if found.overlaps else "side by side"
    text = f"{found.law}, moved by {found.shift[0]}, {even}, {seams}"
    axes.set_title(f"{found.spec!r}\n{text}", fontsize=7.4, color=INK)


def draw_chain(axes: Axes, chain: ChainSolution) -> None:
    """Each level's elements at the input position where they lie, the middle of the level marked."""
    width = chain.sizes[0][0]
    middle = (width - 1) / 2
    for level, (size, scale, drift) in enumerate(zip(chain.sizes, chain.scales, chain.drift, strict=True)):
        (elements,), step, moved = size, float(scale[0]), float(drift[0])
        left = middle + moved - step * elements / 2
        for element in range(elements):
            box = (left + element * step, -level)
            axes.add_patch(Rectangle(box, step, 0.55, fc=IN if level < 3 else OUT, ec=INK, lw=0.8))
        axes.plot([middle + moved], [0.275 - level], marker="D", ms=5, color=BAD if moved else INK)
        axes.text(width + 1.2, 0.275 - level, f"{elements}: {drift[0]}", va="center", fontsize=9)
    axes.axvline(middle, color=INK, lw=0.8, ls=":")
    axes.set(xlim=(-3.5, width + 4), ylim=(-4.3, 0.8))
    axes.axis("off")
    kernels = ", ".join(str(step.spec.kernel_size[0]) for step in chain.steps)
    axes.set_title(f"kernels {kernels}; size: drift", fontsize=9.5)


def save(figure: Figure, name: str) -> None:
    write_whole(HERE / f"solve-{name}.png", lambda path: figure.savefig(path, dpi=110, format="png"))


def main() -> None:
    figure = Figure(figsize=(9.6, 6.2), layout="constrained")
    for axes, found in zip(figure.subplots(3, 2).flat, layers(), strict=True):
        draw_layer(axes, found)
    save(figure, "layers")
    figure = Figure(figsize=(9.6, 3.2), layout="constrained")
    sizes = (16, 8, 4, 8, 16)
    chains = [geometry.solve_chain(sizes, nd=1, kernel_size=k)[0] for k in (4, 3)]
    for axes, chain in zip(figure.subplots(1, 2).flat, chains, strict=True):
        draw_chain(axes, chain)
    save(figure, "chain")


if __name__ == "__main__":
    main()
