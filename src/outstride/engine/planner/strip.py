"""The packed input of a task: how large it is and how it lies."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

from outstride.engine.planner.gather_form import GatherAxis


@dataclass(frozen=True)
class Strip:
    """The packed input of a task: extents of a plane per axis and pitches in elements.

    Where pixels lie apart, their channels lie side by side, and else whole channels one behind the other, or
    those of a plane: `channel_pitch` is the way to the next channel in each, for terms, channel blocks and
    groups alike.
    """

    extent: tuple[int, int, int]
    planes: int
    image_pitch: int
    plane_pitch: int
    channel_pitch: int
    pixel_pitch: int
    channels: int

    @property
    def elements(self) -> int:
        """Room that the strip takes."""
        return max(self.plane_pitch * self.planes * self.pixel_pitch, self.channel_pitch * self.channels)

    def rows_together(self, box: tuple[int, ...]) -> tuple[int, int]:
        """Rows of results that lie together in the output, and their length: planes without gaps."""
        planes = box[0] * box[1]
        return (planes, box[2] * box[3]) if self.extent[2] == box[3] else (planes * box[2], box[3])


def strip_of(
    axes: tuple[GatherAxis, ...], box: tuple[int, ...], channels: int, *, pixel_major: bool, slack: int,
    aligned: bool = False, dense: bool = False,
) -> Strip:  # fmt: skip
    """The strip that holds everything the box reads; where rows are `aligned` each begins a line.

    Where it is `dense`, the channels of a pixel follow those of another.
    """
    extent = [b + a.reach[1] - a.reach[0] for a, b in zip(axes, box[1:], strict=True)]
    shared = shared_border(axes[2], box[3])
    extent[2] -= shared
    if aligned:
        extent[2] = ceil(extent[2] / 16) * 16
        shared = ceil(shared / 16) * 16
    planes = len(axes[0].residues) * len(axes[1].residues) * axes[2].in_step
    image = prod(extent)
    # Vectors run over row ends into what is written later; planes are written side
    # by side, so each keeps room behind.
    plane = image * box[0] + slack + shared  # the last row has its border to itself
    # Channels an odd number of cache lines apart, and pixels too unless several share a line: no two of them
    # compete for one set of the first-level cache.
    apart = channels if dense or channels < 16 else odd_lines(channels)
    pixel = apart if pixel_major else 1
    pitch = 1 if pixel > 1 else odd_lines(plane * planes)
    return Strip((extent[0], extent[1], extent[2]), planes, image, plane, pitch, pixel, channels)


def planes_strip(
    axes: tuple[GatherAxis, ...], box: tuple[int, ...], channels: int, slack: int, *,
    pixel_major: bool = False,
) -> Strip:  # fmt: skip
    """The strip of transformed input, plane by plane: each has all channels, which are summed one by one.

    What a sum reads then lies together, and fits into the first-level cache. Where channels of a cell lie
    together, no cell is aligned, but they are as near to each other.
    """
    _, d, h, w = box
    image, planes = d * h * w, prod(a.in_step for a in axes)
    if pixel_major:
        return Strip((d, h, w), planes, image, image * box[0] + slack, 1, channels, channels)
    channel = odd_lines(image * box[0] + slack)
    plane = odd_lines(max(channel * channels, channel + 1))  # wider than a channel: see `elements`
    return Strip((d, h, w), planes, image, plane, channel, 1, channels)


def odd_lines(elements: int) -> int:
    """The least odd number of lines of 16 elements that holds so many."""
    return (ceil(elements / 16) | 1) * 16


def shared_border(axis: GatherAxis, width: int) -> int:
    """Columns that neighbouring rows share: zeros right of one row are the zeros left of the next."""
    if width < axis.cells or axis.in_step > 1:
        return 0
    left = -axis.reach[0]
    right = axis.cells - 1 + axis.reach[1] - (axis.input_size - 1)
    return max(0, min(left, right))
