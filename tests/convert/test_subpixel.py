"""``convert``: sub-pixel and space-to-depth forms are the same function, and what they cost."""

from __future__ import annotations

import itertools
import pickle
import random
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from outstride import convert, nn
from outstride.convert.parts import Shuffle
from outstride.errors import ArgumentError, ShapeError, UnsupportedError
from tests.cases import BY_ID, CASES, Case
from tests.convert.test_zero_insertion import layer_of
from tests.operands import apply, definition, draw, terms
from tests.tolerance import assert_close_to_reference, assert_integers_equal, assert_same_numbers

_LAYERS = [c for c in CASES if c.output_size is None]
_TRANSPOSED = [c for c in _LAYERS if c.transposed]
_STRIDED = [c for c in _LAYERS if not c.transposed and max(c.stride) > 1]


@pytest.mark.parametrize("case", _TRANSPOSED, ids=[c.id for c in _TRANSPOSED])
def test_the_sub_pixel_form_is_the_same_function(case: Case) -> None:
    operands = draw(case, "integers", torch.float32)
    form: Any = convert.to_subpixel(layer_of(case, operands))
    ours = apply(case, operands.input, operands.weight, operands.bias)
    assert_integers_equal(form(operands.input), ours.double().numpy(), torch.float32)
    assert type(form.conv) is getattr(torch.nn, f"Conv{case.nd}d")
    assert form.conv.stride == (1,) * case.nd
    if case.batched and case.batch:
        assert_integers_equal(form(operands.input[0]), ours[0].double().numpy(), torch.float32)


@pytest.mark.parametrize("case", _STRIDED, ids=[c.id for c in _STRIDED])
def test_the_space_to_depth_form_is_the_same_function(case: Case) -> None:
    operands = draw(case, "integers", torch.float32)
    form: Any = convert.to_space_to_depth(layer_of(case, operands))
    ours = apply(case, operands.input, operands.weight, operands.bias)
    assert_integers_equal(form(operands.input), ours.double().numpy(), torch.float32)
    assert form.conv.stride == (1,) * case.nd
    if case.batched and case.batch:
        assert_integers_equal(form(operands.input[0]), ours[0].double().numpy(), torch.float32)


@pytest.mark.parametrize(
    "name", ["transpose2d-dilation-shares-factor", "transpose3d-mixed", "conv2d-kernel-3x5-stride-3x4"]
)
def test_reals_keep_to_law_1(name: str) -> None:
    case = BY_ID[name]
    operands = draw(case, "reals", torch.float32)
    rewrite = convert.to_subpixel if case.transposed else convert.to_space_to_depth
    found = rewrite(layer_of(case, operands))(operands.input)
    truth, magnitude = (definition(case, "reals", absolute)["output"] for absolute in (False, True))
    assert_close_to_reference(found, truth, magnitude, terms(case, "output"), torch.float32)


def test_every_small_transposed_layer_on_a_line() -> None:
    """All of kernel, stride, dilation, padding, output_padding: 680 layers, each on two sizes."""
    generator = torch.Generator().manual_seed(0)
    for k, s, d, p in itertools.product((1, 2, 3, 5), (1, 2, 3, 4), (1, 2, 3), (0, 1, 2, 4, 7)):
        for more in range(max(s, d)):
            layer = torch.nn.ConvTranspose1d(1, 2, k, s, p, more, dilation=d)
            with torch.no_grad():
                layer.weight.copy_(torch.randint(-3, 4, layer.weight.shape, generator=generator))
                layer.bias.copy_(torch.randint(-3, 4, (2,), generator=generator))  # type: ignore[union-attr]
            form = convert.to_subpixel(layer)
            for size in (9, 20):
                x = torch.randint(-3, 4, (1, 1, size), generator=generator).float()
                if (size - 1) * s - 2 * p + d * (k - 1) + more + 1 < 1:
                    continue
                with torch.no_grad():
                    assert_integers_equal(form(x), layer(x).double().numpy(), torch.float32, str(layer))


_PAIRS = [
    (k, r, d, p, groups, mode)
    for k, r, d in itertools.product((1, 2, 3), (1, 2, 3), (1, 2))
    for p, groups, mode in [
        (0, 1, "zeros"),
        (1, 2, "zeros"),
        ("same", 1, "zeros"),
        (5, 1, "zeros"),
        (1, 1, "reflect"),
    ]
]


def integers_(layer: torch.nn.Module, seed: int = 1) -> Any:
    """Small whole weights, so that sums are exact."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for values in layer.parameters():
            values.copy_(torch.randint(-3, 4, values.shape, generator=generator))
    return layer


@pytest.mark.parametrize("even_bias", [True, False])
def test_a_sub_pixel_layer_is_a_transposed_one(even_bias: bool) -> None:
    x = torch.randint(-3, 4, (2, 2, 7, 8), generator=torch.Generator().manual_seed(2)).float()
    for k, r, d, p, groups, mode in _PAIRS:
        conv: Any = torch.nn.Conv2d(2, 4 * r * r, k, padding=p, dilation=d, groups=groups, padding_mode=mode)  # type: ignore[arg-type]
        pair = torch.nn.Sequential(integers_(conv), torch.nn.PixelShuffle(r))
        if even_bias:
            with torch.no_grad():
                conv.bias.copy_(conv.bias[:: r * r].repeat_interleave(r * r))
        found: Any = convert.from_subpixel(pair)
        assert_integers_equal(found(x), pair(x).detach().double().numpy(), torch.float32, str(pair))
        assert found.conv_transpose.stride == (r, r)
        assert hasattr(found, "bias") == (not even_bias and r > 1)
        assert_integers_equal(
            convert.from_subpixel(conv, r)(x), pair(x).detach().double().numpy(), torch.float32
        )


def test_there_and_back_is_the_layer_itself() -> None:
    layer = integers_(torch.nn.ConvTranspose2d(3, 4, 6, stride=3, groups=1))
    there: Any = convert.to_subpixel(layer)
    conv: Any = torch.nn.Conv2d(3, 36, 2, padding=1)
    conv.weight, conv.bias = there.conv.weight, there.conv.bias
    back: Any = convert.from_subpixel(conv, 3)
    assert back.conv_transpose.kernel_size == layer.kernel_size
    assert_integers_equal(back.conv_transpose.weight, layer.weight.detach().double().numpy(), torch.float32)


def test_other_axes_and_unequal_factors() -> None:
    generator = torch.Generator().manual_seed(4)
    for layer, size in (
        (torch.nn.Conv1d(2, 6, 3, padding=1), (9,)),
        (torch.nn.Conv2d(2, 12, 3), (5, 6)),
        (torch.nn.Conv3d(2, 24, 2), (4, 5, 3)),
    ):
        factor = (
            (3,)
            if layer.weight.dim() == 3
            else (3, 2)[: layer.weight.dim() - 2] + (2,) * (layer.weight.dim() - 4)
        )
        x = torch.randint(-3, 4, (1, 2, *size), generator=generator).float()
        pair = torch.nn.Sequential(integers_(layer), Shuffle(factor))
        truth = pair(x).detach().double().numpy()
        assert_integers_equal(convert.from_subpixel(layer, factor)(x), truth, torch.float32)
        assert_integers_equal(convert.from_subpixel(pair)(x), truth, torch.float32)


@pytest.mark.parametrize("padding", [0, 1, "same"])
@pytest.mark.parametrize("mode", ["zeros", "circular"])
def test_space_to_depth_and_convolution_is_a_strided_one(padding: Any, mode: str) -> None:
    x = torch.randint(-3, 4, (2, 2, 12, 18), generator=torch.Generator().manual_seed(5)).float()
    for k, r, d, s in itertools.product((1, 2, 3), (1, 2, 3), (1, 2), (1, 2)):
        if padding == "same" and s > 1:
            continue
        options: Any = {"padding": padding, "dilation": d, "padding_mode": mode}
        conv = torch.nn.Conv2d(2 * r * r, 3, k, s, **options)
        pair = torch.nn.Sequential(torch.nn.PixelUnshuffle(r), integers_(conv))
        if min(x.shape[2:]) // r < d * (k - 1) + 1:
            continue
        found: Any = convert.from_space_to_depth(pair)
        assert_integers_equal(found(x), pair(x).detach().double().numpy(), torch.float32, str(pair))
        assert found.conv.stride == (r * s, r * s)


class UNet(torch.nn.Module):
    """Skips, nested Sequentials, one layer in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.down = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.deeper = torch.nn.Sequential(torch.nn.Conv2d(8, 8, 4, stride=2, padding=1), torch.nn.ReLU())
        up = torch.nn.ConvTranspose2d(8, 8, 3, stride=2, padding=1, output_padding=1)
        self.up = torch.nn.Sequential(up, torch.nn.ReLU())
        self.again = up
        self.tail = torch.nn.ModuleDict(
            {"x2": torch.nn.Sequential(torch.nn.Conv2d(16, 12, 3, padding=1), torch.nn.PixelShuffle(2))}
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = self.down(x)
        whole = torch.cat([self.up(self.deeper(half)), half], 1)
        result: torch.Tensor = self.tail["x2"](whole) + self.again(half)[:, :3]
        return result


@pytest.mark.parametrize(
    "rewrite", [convert.to_conv, convert.to_subpixel, convert.from_subpixel, convert.to_space_to_depth]
)
def test_a_whole_model_is_rewritten_in_a_copy(rewrite: Any) -> None:
    model = integers_(UNet()).eval()
    before = [type(part) for part in model.modules()]
    x = torch.randint(-2, 3, (1, 3, 16, 20), generator=torch.Generator().manual_seed(6)).float()
    found = rewrite(model)
    with torch.no_grad():
        assert_integers_equal(found(x), model(x).double().numpy(), torch.float32)
    assert [type(part) for part in model.modules()] == before
    kinds = {type(part) for part in found.modules()}
    if rewrite in (convert.to_conv, convert.to_subpixel):
        assert torch.nn.ConvTranspose2d not in kinds
        assert found.up[0] is found.again
    elif rewrite is convert.from_subpixel:
        assert torch.nn.PixelShuffle not in kinds
    else:
        assert all(part.stride == (1, 1) for part in found.modules() if isinstance(part, torch.nn.Conv2d))


def test_a_pair_within_a_rewritten_sequential_is_found() -> None:
    def pair() -> torch.nn.Sequential:
        return torch.nn.Sequential(torch.nn.Conv2d(4, 16, 1), torch.nn.PixelShuffle(2))

    model = integers_(
        torch.nn.Sequential(torch.nn.Conv2d(4, 16, 3), torch.nn.PixelShuffle(2), pair(), torch.nn.ReLU())
    )
    found = convert.from_subpixel(model)
    assert not any(isinstance(part, torch.nn.PixelShuffle) for part in found.modules())
    x = torch.ones(1, 4, 5, 5)
    assert_integers_equal(found(x), model(x).detach().double().numpy(), torch.float32)


def test_saved_forms_of_planes_need_nothing_of_ours() -> None:
    layer = nn.ConvTranspose2d(2, 3, 5, stride=2, padding="same")
    assert b"outstride" not in pickle.dumps(convert.to_subpixel(layer))
    pair = torch.nn.Sequential(torch.nn.Conv2d(2, 8, 3, bias=False), torch.nn.PixelShuffle(2))
    assert b"outstride" not in pickle.dumps(convert.from_subpixel(pair))


def test_the_report_counts_what_torchs_own_counter_counts() -> None:
    rng = random.Random(8)
    for _ in range(10):
        s, k, groups = rng.randint(1, 3), rng.randint(1, 5), rng.choice((1, 2))
        layer = torch.nn.ConvTranspose2d(4, 6, k, stride=s, groups=groups)
        found = convert.compare(layer, (2, 4, 6, 5))
        forms = (layer, convert.to_conv(layer), convert.to_subpixel(layer))
        for form, row in zip(forms, found.forms, strict=True):
            with FlopCounterMode(display=False) as counter:
                out = form(torch.ones(2, 4, 6, 5))
            assert counter.get_total_flops() == 2 * row.multiply_adds
            assert row.output_shape == tuple(out.shape)
            assert row.weight_bytes == sum(p.numel() * 4 for p in form.parameters())
    whole = convert.compare(UNet(), (1, 3, 16, 16))
    assert whole._repr_html_().count("<tr>") == 1 + len(whole.forms)
    text = str(whole)
    assert "sub-pixel" in text
    assert "space to depth" in text


def test_what_cannot_be_rewritten_is_refused() -> None:
    with pytest.raises(ArgumentError, match="a transposed convolution: got Conv2d, which has none"):
        convert.to_subpixel(torch.nn.Conv2d(1, 1, 1))
    with pytest.raises(ArgumentError, match="'layer' must know its weights"):
        convert.to_subpixel(torch.nn.LazyConvTranspose2d(3, 2))
    with pytest.raises(ArgumentError, match="convolution of stride 1"):
        convert.from_subpixel(torch.nn.Conv2d(1, 4, 2, stride=2), 2)
    with pytest.raises(ArgumentError, match="must divide 'out_channels'"):
        convert.from_subpixel(torch.nn.Conv2d(1, 6, 2), 2)
    with pytest.raises(UnsupportedError, match="'groups' must divide"):
        convert.from_subpixel(torch.nn.Conv2d(2, 4, 2, groups=2), 2)
    with pytest.raises(ArgumentError, match="a Sequential with"):
        convert.from_subpixel(torch.nn.Conv2d(2, 4, 2))
    with pytest.raises(ArgumentError, match="must divide the inputs"):
        convert.from_space_to_depth(torch.nn.Conv2d(6, 4, 2), 2)
    with pytest.raises(ArgumentError, match="stride above 1"):
        convert.to_space_to_depth(torch.nn.Conv2d(6, 4, 2))
    with pytest.raises(ArgumentError, match="which has none"):
        convert.compare(torch.nn.Linear(2, 2), (1, 2))
    with pytest.raises(ShapeError, match="'input_shape'"):
        convert.compare(torch.nn.ConvTranspose2d(2, 2, 2, stride=2), (1, 3, 4, 4))
    with pytest.raises(ArgumentError, match="'input_shape' must be whole numbers of at least 0: got 5"):
        convert.compare(torch.nn.ConvTranspose2d(2, 2, 2, stride=2), 5)  # type: ignore[arg-type]


_COMPUTED: dict[str, Any] = {
    "weight_norm": torch.nn.utils.weight_norm,
    "spectral_norm": torch.nn.utils.spectral_norm,
    "pruned": lambda layer: torch.nn.utils.prune.l1_unstructured(layer, "weight", 0.5),
    "pruned twice": lambda layer: torch.nn.utils.prune.random_unstructured(
        torch.nn.utils.prune.l1_unstructured(layer, "weight", 0.3), "weight", 0.3
    ),
    "parametrised": torch.nn.utils.parametrizations.weight_norm,
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("whole", [False, True], ids=["layer", "model"])
@pytest.mark.parametrize("name", _COMPUTED)
def test_a_computed_weight_is_that_of_the_next_call(name: str, whole: bool) -> None:
    torch.manual_seed(0)
    layer = _COMPUTED[name](torch.nn.ConvTranspose1d(3, 4, 4, 2, 1)).eval()
    model = torch.nn.Sequential(layer, torch.nn.ReLU()) if whole else layer
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    before = layer.weight
    form = convert.to_subpixel(model)
    assert layer.weight is before or name == "parametrised"
    model(torch.zeros(1, 3, 5))  # computes it
    plain = torch.nn.ConvTranspose1d(3, 4, 4, 2, 1)
    plain.weight, plain.bias = torch.nn.Parameter(layer.weight.detach().clone()), layer.bias
    expected = convert.to_subpixel(plain).get_parameter("conv.weight")
    assert_same_numbers(form.get_parameter("0.conv.weight" if whole else "conv.weight"), expected)
    assert_same_numbers(
        convert.to_conv(model).get_parameter("0.conv.weight" if whole else "conv.weight"),
        convert.to_conv(plain).get_parameter("conv.weight"),
    )
    assert len(convert.compare(model, (1, 3, 5)).forms) == 3
