"""Values between launches in other memory formats: the bits and strides of results are those of torch's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import outstride
from outstride.compilation.formats import Formats
from outstride.compilation.scripts import Line
from outstride.compilation.stages import Reads
from outstride.engine.launch.weights.packing import PACKED
from tests.compilation.networks import NETWORKS, Network
from tests.compilation.test_laws import assert_same, compiled

#: Those of which another size, for which the tracer begins anew, is played as well.
_CHANGING = ("residual", "mobile", "volumes")
#: Those with values that may lie in either format; the others are played as in `test_laws.py`.
_WITH_A_CHOICE = (*_CHANGING, "plain residual", "skips", "gates", "borders")


@pytest.fixture(autouse=True)
def _nothing_is_compiled() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def as_others(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every value that may lies in its other format; counts those of each choice."""
    counts: list[int] = []

    def choose(self: Formats) -> frozenset[int]:
        found = frozenset(set(self._class_of.values()) - self._fixed)
        counts.append(len(found))
        return found

    monkeypatch.setattr(Formats, "_choose", choose)
    return counts


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(network, id=name, marks=[] if name in _WITH_A_CHOICE else [pytest.mark.slow])
        for name, network in NETWORKS.items()
    ],
)
def test_results_do_not_depend_on_formats(network: Network, as_others: list[int]) -> None:
    model = network.build()
    served, fast = outstride.accelerate(model), compiled(model)
    with torch.no_grad():
        for seed in (1, 2, 3):
            inputs = network.inputs(seed)
            assert_same(fast(*inputs), served(*inputs), f"seed {seed}")
        spoiled = [x.index_fill(-1, torch.tensor(1), float("nan")) for x in network.inputs(4)]
        assert_same(fast(*spoiled), served(*spoiled), "with NaN")
        if network in map(NETWORKS.get, _CHANGING):
            larger = network.inputs(6, more=4)
            for _ in range(2):
                assert_same(fast(*larger), served(*larger), "another size")


@pytest.mark.parametrize("name", _WITH_A_CHOICE)
def test_formats_do_change(name: str, as_others: list[int]) -> None:
    inputs = NETWORKS[name].inputs()
    fast = compiled(NETWORKS[name].build())
    with torch.no_grad():
        fast(*inputs)
    assert sum(as_others) > 0


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("activation", [nn.SiLU, nn.ELU])
def test_ends_are_those_of_elements_as_torch_has_them(
    activation: type[nn.Module], dynamic: bool, as_others: list[int]
) -> None:
    """What fills no vector torch computes by another routine; which elements do not depends on the format."""
    torch.manual_seed(0)
    layers = [layer for _ in range(3) for layer in (nn.Conv2d(60, 60, 1), activation())]
    model = nn.Sequential(*layers, nn.Conv2d(60, 16, 1)).eval()
    served, fast = outstride.accelerate(model), compiled(model, dynamic=dynamic)
    with torch.no_grad():
        for seed in range(8):
            x = 3 * torch.randn(1, 60, 7, 7)
            assert_same(fast(x), served(x), f"seed {seed}")


def test_small_maps_of_many_channels_lie_with_their_channels_side_by_side() -> None:
    """Predicted faster: three layers in a row, of which the values between are free."""
    layers = [nn.Conv2d(256, 256, 1, bias=False) for _ in range(3)]
    program: list[frozenset[int]] = []
    choose = Formats._choose

    def chosen(self: Formats) -> frozenset[int]:
        program.append(choose(self))
        return program[-1]

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(Formats, "_choose", chosen)
        compiled(nn.Sequential(*layers))(torch.zeros(1, 256, 14, 14))
    assert [len(found) for found in program] == [2]


@pytest.mark.parametrize("frozen", [False, True])
def test_weights_are_kept_in_the_order_of_the_chosen_formats(frozen: bool, as_others: list[int]) -> None:
    """The call that notes sizes packs them for the formats that torch has; later calls do not read those."""
    layers = [nn.Conv2d(64, 64, 1) for _ in range(3)]
    model, x = nn.Sequential(*layers).eval(), torch.randn(1, 64, 14, 14)
    served, fast = outstride.accelerate(model), compiled(model, options={"frozen": frozen})
    kept = list[list[list[tuple[int, str]]]]()
    with torch.no_grad():
        for _ in range(3):
            found = fast(x)
            kept.append([PACKED.forms(layer.weight) for layer in layers])
    assert sum(as_others) > 0
    assert kept[1] == kept[2], "a later call packs nothing"
    assert [len(forms) for forms in kept[2]] == [1, 1, 1]
    assert_same(found, served(x), "with weights packed anew")


def _line(inputs: tuple[int, ...], place: int, reads: Reads | None) -> Line:
    return Line(lambda: None, inputs, place, (), True, False, None, None, False, False, False, reads)


def _choice(costs: list[tuple[float, float, float, float]], kept: set[int]) -> set[int]:
    """Of a chain of contractions, whose costs are given for (input, result) as they are or changed."""
    numbers = [
        dict(zip(((False, False), (False, True), (True, False), (True, True)), four, strict=True))
        for four in costs
    ]

    def cycles(number: int) -> Reads:
        def cost(_: object, x: Tensor, y: Tensor) -> float:
            return numbers[number][not x.is_contiguous(), not y.is_contiguous()]

        return Reads(free=0, cycles=cost)

    lines = [_line((i,), i + 1, cycles(i)) for i in range(len(costs))]
    formats = Formats(lines, kept)
    value = torch.zeros(1, 4, 3, 3)
    for number in range(len(costs)):
        formats.note(number, [value], value)
    return set(formats._choose())


def test_the_least_sum_is_chosen() -> None:
    """Between two layers that lose, two that gain more: all three values between change, or none."""
    dear, cheap = (10.0, 12.0, 12.0, 20.0), (10.0, 11.0, 11.0, 3.0)
    assert _choice([dear, cheap, cheap, dear], {4}) == {1, 2, 3}
    assert _choice([dear, dear, dear], {3}) == set()
    apart = (10.0, 30.0, 30.0, 20.0)
    assert _choice([apart, cheap, cheap, apart], {4}) == set()


def test_what_the_program_returns_lies_as_torch_has_it() -> None:
    cheap = (10.0, 1.0, 1.0, 1.0)
    assert _choice([cheap, cheap], {1, 2}) == set()
