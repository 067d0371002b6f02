"""Maps between passes: what was written is read, and nothing is left of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outstride.tiling.box import Box, shape_of, whole
from outstride.tiling.maps import Map, MapInFile, MapInMemory, Maps
from tests.tolerance import assert_same_bits

_KINDS: dict[str, Callable[[Sequence[int]], Map]] = {
    "memory": lambda shape: MapInMemory(shape, torch.float32),
    "file": lambda shape: MapInFile(shape, torch.float32, Path(__file__).parent),
}


@pytest.mark.parametrize("kind", _KINDS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_boxes_are_read_as_they_were_written(kind: str, data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    values = torch.randn(shape)
    with Maps() as maps:
        maps.open(0, _KINDS[kind](shape))
        maps[0].write(whole(shape), values)
        for _ in range(3):
            starts = [data.draw(st.integers(0, n - 1)) for n in shape]
            box: Box = tuple(
                (a, data.draw(st.integers(a + 1, n))) for a, n in zip(starts, shape, strict=True)
            )
            places = tuple(slice(*axis) for axis in box)
            assert_same_bits(maps[0].read(box), values[places])
            values[places] = torch.randn(shape_of(box))
            maps[0].write(box, values[places])
        assert_same_bits(maps[0].read(whole(shape)), values)


def test_a_file_has_no_name_and_is_closed_whatever_happens(tmp_path: Path) -> None:
    def interrupted(maps: Maps) -> None:
        with maps:
            maps.open(3, MapInFile((2, 5), torch.float64, tmp_path))
            maps[3].write(whole((2, 5)), torch.ones(2, 5, dtype=torch.float64))
            assert not list(tmp_path.iterdir())
            raise KeyboardInterrupt

    maps = Maps()
    with pytest.raises(KeyboardInterrupt):
        interrupted(maps)
    assert not maps
