"""Models that are called with several tensors: pictures side by side, masks, vectors, labels, numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from outstride import accelerate, tiling
from outstride.errors import ArgumentError, ShapeError, UnsupportedError
from outstride.tiling.files import formats
from outstride.tiling.inputs import is_cut
from tests.tiling.models_to_tile import image, seeded
from tests.tolerance import assert_same_bits

F = nn.functional


class Several(nn.Module):
    """Layers of each kind of input, joined by a function of the test's."""

    def __init__(self, join: Callable[..., Any]) -> None:
        super().__init__()
        self.picture, self.mask = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(1, 4, 5, padding=2)
        self.coarse, self.vector, self.labels = nn.Conv2d(4, 4, 1), nn.Linear(16, 4), nn.Embedding(5, 4)
        self.join = join

    def forward(self, *args: Any, **named: Any) -> Any:
        return self.join(self, *args, **named)


def modulated(m: Several, x: Tensor, vector: Tensor) -> Tensor:
    made: Tensor = F.gelu(m.picture(x)) * (1 + m.vector(F.silu(vector))[..., None, None])
    return made


def named(m: Several, image: Tensor, *, mask: Tensor, strength: float = 1.0) -> Tensor:
    return torch.where(mask, m.picture(image), m.mask(image[:, :1]) * strength)


def nested(m: Several, pair: list[Tensor], more: dict[str, Tensor]) -> list[Tensor]:
    left, right = (m.picture(x) for x in pair)
    return [left - right, F.interpolate(m.coarse(more["coarse"]), scale_factor=4) + left]


def labelled(m: Several, labels: Tensor, x: Tensor) -> Tensor:
    made: Tensor = m.labels(labels).movedim(-1, 1) + m.picture(x)
    return made


def stepped(m: Several, x: Tensor, step: Tensor) -> Tensor:
    for _ in range(int(step)):  # a small input is known by its numbers
        x = m.picture(x)[:, :3]
    return x


def behind_a_norm(m: Several, x: Tensor, mask: Tensor) -> Tensor:
    return F.instance_norm(m.mask(mask)) + F.group_norm(m.picture(x), 2)


def mask_of(*shape: int) -> Tensor:
    return image(*shape) > 0


#: What joins the inputs, and the inputs.
CALLS: dict[str, tuple[Callable[..., Any], Any]] = {
    "two phases": (lambda m, x, y: m.picture(x) * m.picture(y).sigmoid(), (image(1, 3, 31, 40),) * 2),
    "a mask": (lambda m, x, y: m.picture(x) * m.mask(y), (image(2, 3, 31, 40), image(2, 1, 31, 40))),
    "a mask without channels": (lambda m, x, y: m.picture(x) * y, (image(2, 3, 31, 40), image(31, 40))),
    "a vector": (modulated, (image(2, 3, 31, 40), image(2, 16))),
    "names and a number": (named, {"image": image(1, 3, 31, 40), "mask": image(1, 1, 31, 40) > 0,
                                   "strength": 2}),
    "a nest": (nested, ([image(1, 3, 28, 40), image(1, 3, 28, 40) * 2], {"coarse": image(1, 4, 7, 10)})),
    "labels": (labelled, (torch.arange(31 * 40).reshape(1, 31, 40) % 5, image(1, 3, 31, 40))),
    "a step": (stepped, (image(1, 3, 31, 40), torch.tensor(2))),
    "norms of both": (behind_a_norm, (image(1, 3, 31, 40), image(1, 1, 31, 40))),
}  # fmt: skip


def whole_of_call(model: nn.Module, source: Any) -> Any:
    args, kwargs = ((), source) if isinstance(source, dict) else (source, {})
    with torch.inference_mode():
        return accelerate(model)(*args, **kwargs)


@pytest.mark.parametrize("tile", [(9, 11), (31, 7)])
@pytest.mark.parametrize("name", CALLS)
def test_a_tile_of_several_inputs_is_the_whole(name: str, tile: tuple[int, int]) -> None:
    join, source = CALLS[name]
    model = seeded(lambda: Several(join))
    got, expected = tiling.tile_run(model, source, tile=tile, progress=False), whole_of_call(model, source)
    pairs = zip(got, expected, strict=True) if isinstance(expected, list) else [(got, expected)]
    for a, b in pairs:
        assert_same_bits(a, b)


def test_what_is_large_is_read_in_boxes_and_what_is_small_whole() -> None:
    class Watched:
        def __init__(self, *shape: int) -> None:
            self.values, self.read = image(*shape).numpy(), list[tuple[int, ...]]()
            self.shape, self.dtype = self.values.shape, self.values.dtype

        def __getitem__(self, key: tuple[slice, ...]) -> Any:
            self.read.append(self.values[key].shape)
            return self.values[key]

    def join(m: Several, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        made: Tensor = modulated(m, x, v) * m.mask(y)
        return made

    sources = Watched(1, 3, 64, 64), Watched(1, 1, 64, 64), Watched(1, 16)
    tiling.tile_run(seeded(lambda: Several(join)), sources, tile=16, progress=False)
    assert [max(source.read) for source in sources] == [(1, 3, 18, 18), (1, 1, 20, 20), (1, 16)]
    assert len(sources[2].read) == 1


@pytest.mark.parametrize(
    ("shape", "main", "nd", "expected"),
    [
        ((2, 1, 900, 800), (2, 3, 900, 800), 2, True),
        ((900, 800), (2, 3, 900, 800), 2, True),
        ((1, 64, 225, 200), (1, 3, 900, 800), 2, True),
        ((1, 512), (1, 3, 900, 800), 2, False),
        ((1, 77, 768), (1, 3, 900, 800), 2, False),
        ((1, 3, 9, 8), (1, 3, 900, 800), 2, False),
        ((1, 9000, 8000, 2), (1, 3, 9000, 8000), 2, True),
        ((1, 1, 1), (1, 80, 500), 1, False),
        ((1, 1, 128000), (1, 80, 500), 1, True),
        ((1, 256), (1, 80, 500), 1, False),
    ],
)
def test_inputs_of_the_picture_s_kind_are_cut(
    shape: tuple[int, ...], main: tuple[int, ...], nd: int, expected: bool
) -> None:
    assert is_cut(shape, main, nd) == expected


def test_a_plan_of_several_inputs_names_all() -> None:
    model = seeded(lambda: Several(lambda m, x, y, v: modulated(m, x, v) * m.mask(y)))
    plan = tiling.plan(model, ((1, 3, 6000, 8000), (1, 1, 6000, 8000), (1, 16)), tile=500)
    assert str(plan).startswith(
        "1 x 3 x 6000 x 8000 and 1 x 1 x 6000 x 8000 and 1 x 16 to 1 x 4 x 6000 x 8000"
    )
    assert plan.reads == (502, 502)
    assert plan.to_dict()["inputs"] == [[1, 3, 6000, 8000], [1, 1, 6000, 8000], [1, 16]]
    planned = tiling.plan(
        seeded(lambda: Several(named)), {"image": (1, 3, 600, 600), "mask": mask_of(1, 1, 600, 600)}
    )
    assert planned.input_shape == (1, 3, 600, 600)


def test_files_of_several_inputs_make_a_file(tmp_path: Path) -> None:
    model = seeded(lambda: Several(lambda m, x, y, v: modulated(m, x, v) * m.mask(y)))
    sources = image(1, 3, 31, 40), image(1, 1, 31, 40), image(1, 16)
    paths = [tmp_path / f"{name}.npy" for name in "abc"]
    for path, source in zip(paths, sources, strict=True):
        np.save(path, source.numpy())
    out = tiling.tile_run(model, tuple(map(str, paths)), tmp_path / "y.npy", tile=16, progress=False)
    assert_same_bits(torch.from_numpy(np.load(out)), whole_of_call(model, sources))
    assert tiling.recheck(model, tuple(paths), out)
    np.save(paths[1], -sources[1].numpy())
    assert not tiling.recheck(model, tuple(paths), out, tiles=100)


def test_a_run_that_ended_belongs_to_all_of_its_inputs(tmp_path: Path) -> None:
    model = seeded(lambda: Several(named))
    x, mask = image(1, 3, 31, 40), mask_of(1, 1, 31, 40)
    first: dict[str, Any] = {"image": x, "mask": mask, "strength": 2.0}
    out = tmp_path / "y.npy"

    def run(**changed: Any) -> Any:
        only = [((0, 16), (0, 16))]
        return tiling.tile_run(model, {**first, **changed}, out, tile=16, only=only, progress=False)

    run()
    run()
    changes: list[dict[str, Any]] = [{"mask": ~mask}, {"image": x * 2}, {"strength": 3.0}]
    for changed in changes:
        with pytest.raises(ArgumentError, match="'out' must be gone on with by what began it"):
            run(**changed)
    tiling.tile_run(model, first, out, tile=16, progress=False)
    assert_same_bits(torch.from_numpy(np.load(out)), whole_of_call(model, first))


def test_a_tiling_of_two_inputs_is_verified() -> None:
    model = seeded(lambda: Several(lambda m, x, y: m.picture(x) * m.mask(y)))
    x, y = image(1, 3, 16, 40), image(1, 1, 16, 40)

    def halves(x: Tensor, y: Tensor) -> Tensor:
        whole = accelerate(model)(x, y)
        return torch.cat([model(x[..., :20], y[..., :20]), whole[..., 20:]], -1)

    assert tiling.verify(accelerate(model), model, (x, y))
    assert tiling.verify(halves, model, (x, y)).lines[-1] == (18, 19)


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "too few": ((image(1, 3, 20, 20),), ShapeError, r"missing 1 required .*what its forward takes, \(x, y\)"),
    "too many": ((image(1, 3, 20, 20),) * 3, ShapeError, r"got shapes \(1, 3, 20, 20\), .*takes, \(x, y\)"),
    "another name": ({"x": image(1, 3, 20, 20), "z": image(1, 1, 20, 20)}, ShapeError, "unexpected keyword"),
    "sizes": ((image(1, 3, 20, 20), image(1, 1, 21, 20)), ShapeError,
              r"'model' must run on the source: got shapes \(1, 3, 20, 20\), \(1, 1, 21, 20\)"),
    "no array": ((3, 4.0), ArgumentError, "'source' must be an array, a tensor or a path, or a nest of such"),
    "nothing": ((), ArgumentError, "'source' must be an array"),
    "no such array": ((image(1, 3, 20, 20), object()), ArgumentError, r"'source\[1\]' must be an array"),
    "a missing file": ((image(1, 3, 20, 20), "nothing.npy"), ArgumentError, "'source' must be a file that"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_model_cannot_be_called_with_is_refused(name: str) -> None:
    source, error, said = REFUSED[name]

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 2, 1), nn.Conv2d(1, 2, 1)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            made: Tensor = self.first(x) + self.second(y)
            return made

    with pytest.raises(error, match=said):
        tiling.tile_run(Two().eval(), source, progress=False)


def test_numbers_of_a_large_input_do_not_decide() -> None:
    model = seeded(lambda: Several(lambda m, x, y: m.picture(x) if bool(y.sum() > 0) else x))
    with pytest.raises(UnsupportedError, match="must do the same whatever numbers its input holds"):
        tiling.tile_run(model, (image(1, 3, 20, 20), image(1, 1, 20, 20)), progress=False)


def test_an_output_is_none_of_the_inputs(tmp_path: Path) -> None:
    x, y = image(1, 3, 20, 20), tmp_path / "y.npy"
    np.save(y, image(1, 1, 20, 20).numpy())
    model = seeded(lambda: Several(lambda m, x, y: m.picture(x) * m.mask(y)))
    with pytest.raises(ArgumentError, match="'out' must be another file than 'source'"):
        tiling.tile_run(model, (x, y), y, overwrite=True, progress=False)
    assert formats.file_of(y).place == y
