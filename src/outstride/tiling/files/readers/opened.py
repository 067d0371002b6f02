"""What a reader hands over."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outstride.errors import ArgumentError
from outstride.tiling.files.axes import Order, check_axes, order_of
from outstride.tiling.files.facts import Facts


@dataclass(frozen=True)
class File:
    """A file to read from, and what of it.

    Args:
        path: a file or folder of one of the formats of the guide.
        level: of a pyramid (TIFF, SVS, OME-Zarr), 0 for the largest; by default that.
        axes: a letter for each axis of what is stored, instead of the file's own names: N or T for what is
            run one by one, C or S for channels, Z, Y, X and L for what layers slide along; 'CZYX'. They are
            brought into the order (N, C, Z, Y, X).
        dataset: of a file that holds several (HDF5), or a path inside an OME-Zarr.

    Example:
        >>> File("slide.svs", level=1).level
        1
    """

    path: str | Path
    level: int | None = None
    axes: str | None = None
    dataset: str | None = None

    def __post_init__(self) -> None:
        if self.axes is not None:
            check_axes(self.axes)
        if self.level is not None and self.level < 0:
            raise ArgumentError(f"'level' must be 0 or more: got {self.level!r}; legal: 0 for the largest")

    @property
    def place(self) -> Path:
        """Its path."""
        return Path(self.path)

    @property
    def named(self) -> str | None:
        """The letters of its axes, in capitals."""
        return None if self.axes is None else self.axes.upper()

    def without(self, *options: str) -> None:
        """Refuse what has no meaning for a format.

        Raises:
            ArgumentError: it was given.
        """
        for option in options:
            if getattr(self, option) is not None:
                raise ArgumentError(
                    f"'{option}' must not be given for such a file: got {getattr(self, option)!r} for "
                    f"{str(self.place)!r}; legal: none"
                )

    def leveled(self, count: int) -> int:
        """The level that is asked for.

        Raises:
            ArgumentError: there are fewer.
        """
        level = self.level or 0
        if level >= count:
            raise ArgumentError(
                f"'level' must be one that the source has: got {level} for {str(self.place)!r}; "
                f"legal: 0 to {count - 1}"
            )
        return level

    def order(self, axes: str, shape: tuple[int, ...], nd: int | None) -> Order:
        """Where the axes of a model's input are, by the caller's names or the file's own."""
        return order_of(self.named or axes, shape, nd, self.place)


@dataclass
class Opened:
    """A file as an array of the shape that models take, and what it says besides."""

    array: Any
    facts: Facts = field(default_factory=Facts)
