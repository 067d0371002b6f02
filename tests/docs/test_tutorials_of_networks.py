"""The layers, checkerboards and networks at the end of the tutorials."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from outstride import ConvSpec, artifacts, geometry, nn
from tests.docs.test_examples import script
from tests.docs.tutorial_layers import drawn, holding
from tests.tolerance import assert_same_bits, assert_within, assert_within_roundings


def test_many_layers_give_a_size_and_there_is_a_best() -> None:
    found = geometry.solve(16, 32)
    assert len(found) >= 10
    for solution in found:
        spec = solution.spec
        layer = nn.ConvTranspose2d(
            1, 1, cast(Any, spec.kernel_size), spec.stride, spec.padding, spec.output_padding,
            dilation=spec.dilation,
        )  # fmt: skip
        assert layer(torch.rand(1, 1, 16, 16)).shape[2:] == (32, 32)
    best = found[0].spec
    # It doubles every size, not this one alone, lies centred, and its stride divides its kernel.
    assert all(geometry.output_size(best, n) == (2 * n, 2 * n) for n in range(1, 40))
    assert best.stride == (2, 2)
    assert best.kernel_size[0] % 2 == 0
    assert best.output_padding == (0, 0)
    assert artifacts.overlap(best).counts.min() == artifacts.overlap(best).counts.max()
    # The tutorials' usual k=3 with output_padding has an uneven overlap, and so is not the first.
    usual = ConvSpec.parse("ConvTranspose2d(kernel_size=3, stride=2, padding=1, output_padding=1)")
    assert geometry.output_size(usual, 16) == (32, 32)
    assert artifacts.overlap(usual).counts.min() < artifacts.overlap(usual).counts.max()
    assert [solution.spec for solution in found].index(usual) > 0


def board(layer: Any, period: int) -> float:
    """How much of the layer's answer to a constant picture repeats with the period, 0 to 1.

    Measured without any tool: the root mean square over the phases of their means, less the mean, over the
    root mean square of all, in the middle of the picture, where no border is seen.
    """
    with torch.no_grad():
        out = layer(torch.ones(1, layer.in_channels, 24, 24))[0, :, 12:, 12:]
    out = out[..., : out.shape[-2] // 2 // period * period, : out.shape[-1] // 2 // period * period].double()
    cells = out.unflatten(1, (-1, period)).unflatten(3, (-1, period)).mean((1, 3))
    uneven = cells - cells.mean((1, 2), keepdim=True)
    return float(uneven.square().mean().sqrt() / cells.square().mean().sqrt())


def up(kernel: int, stride: int, padding: int = 0, weight: str = "ones") -> Any:
    """A layer as it is before training: all stamps alike, or as the layer is initialised."""
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(8, 8, kernel, stride, padding, bias=False)
    return holding(layer, torch.ones_like(layer.weight)) if weight == "ones" else layer


def test_the_checkerboard_comes_from_uneven_overlap() -> None:
    for kernel in range(1, 8):
        for stride in range(1, kernel + 1):
            uneven = board(up(kernel, stride), stride)
            assert (uneven < 1e-9) == (kernel % stride == 0), (kernel, stride)
    # Of four neighbours one is stamped once, two twice and one four times.
    wanted = np.std([1, 2, 2, 4]) / np.sqrt(np.mean([1, 4, 4, 16]))
    assert_within_roundings(board(up(3, 2), 2), wanted, 64, "means of 36 small integers in float64")


def test_a_larger_stride_a_smaller_kernel_and_more_padding_do_not_cure() -> None:
    """A larger stride, a smaller kernel, more padding: measured, none is what helps."""
    # More padding cuts off the border and leaves the middle as it is.
    boards = [board(up(3, 2, padding), 2) for padding in (0, 1, 2)]
    assert max(boards) - min(boards) < 1e-9
    assert min(boards) > 0.3
    # A larger stride: even overlap becomes uneven, and uneven more uneven.
    assert board(up(4, 2), 2) < 1e-9 < 0.2 < board(up(4, 3), 3)
    assert board(up(5, 2), 2) < board(up(5, 3), 3) < board(up(5, 4), 4)
    # A smaller kernel: the same.
    assert board(up(4, 2), 2) < 1e-9 < 0.3 < board(up(3, 2), 2)
    assert board(up(7, 2), 2) < board(up(5, 2), 2) < board(up(3, 2), 2)


def test_what_helps() -> None:
    # An even overlap is needed; with weights that differ it does not suffice, and these cures do.
    uncured = board(up(4, 2, 1, "drawn"), 2)
    assert uncured > 0.1
    assert board(artifacts.icnr_(up(4, 2, 1, "drawn")), 2) < 1e-6
    assert board(artifacts.equalize_(up(4, 2, 1, "drawn")), 2) < 1e-6
    assert board(artifacts.smooth(up(3, 2, 1, "drawn")), 2) < 1e-6
    resized = torch.nn.Sequential(torch.nn.UpsamplingNearest2d(scale_factor=2), nn.Conv2d(8, 8, 3, padding=1))
    resized.in_channels = 8  # type: ignore[assignment]
    assert board(resized, 2) < 1e-6
    # The library's own figures agree with what was measured here.
    layer = up(3, 2, 1, "drawn")
    found, told = board(layer, 2), artifacts.ripple(layer).value
    assert found > 0.1
    assert_within(told, found, 0.35 * found, "the tool means over all inputs, not constant ones")


def test_an_encoder_decoder_with_transposed_convolutions_segments() -> None:
    example = script("segmentation")
    learned, unseen = example.scenes()
    x, labels = unseen.draw(2, 64, np.random.default_rng(0))
    assert x.shape == (2, 3, 64, 64)
    assert {int(c) for c in labels.unique()} <= set(range(11))
    for name, upsampler in example.UPSAMPLERS.items():
        model = example.EncoderDecoder(upsampler).eval()
        assert model(x).shape == (2, 11, 64, 64), name
    # The bilinear start is bilinear enlargement, away from the border, where torch's has no zeros beyond.
    start = example.bilinear_(nn.ConvTranspose2d(3, 3, 4, stride=2, padding=1))
    enlarged = F.interpolate(x, scale_factor=2, mode="bilinear")
    inner = (..., slice(1, -1), slice(1, -1))
    assert_within_roundings(start(x)[inner], enlarged[inner], 16, "four products and weights that are exact")
    model, losses = example.train("transposed, bilinear start", learned, 8, 0, example.Training())
    assert len(losses) == 8
    assert sum(losses[-3:]) < sum(losses[:3])


@pytest.mark.slow
def test_a_trained_network_finds_the_digits() -> None:
    example = script("segmentation")
    learned, unseen = example.scenes()
    x, labels = unseen.draw(12, 128, np.random.default_rng(1))
    name = "transposed, bilinear start"
    model, losses = example.train(name, learned, example.STEPS, 0, example.Training())
    told = example.judge(name, model, losses, x, labels)
    assert told.accuracy > float((labels == 0).float().mean()) + 0.05
    assert told.mean_iou > 0.4


def test_the_text_network_is_the_tutorials() -> None:
    example = script("text_cnn")
    torch.manual_seed(0)
    model = example.TextCNN(words=50, classes=15)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, module in model.named_children():
        module.register_forward_hook(lambda _m, _i, out, name=name: shapes.update({name: tuple(out.shape)}))
    words = torch.randint(50, (3, example.LENGTH))
    model.eval()
    assert model(words).shape == (3, 15)
    assert shapes["embedding"] == (3, 100, 48)
    assert shapes["first"] == (3, 64, 97, 1)  # VALID: 100 - 4 + 1 places, the width used up
    assert shapes["pool"] == (3, 64, 49, 1)  # SAME: ceil(97 / 2)
    assert shapes["second"] == (3, 64, 46, 1)  # the filters as width: VALID over 49 places
    # The pooling is TensorFlow's: three elements of border in all, one before and two behind.
    line = drawn(1, 1, 97, 1)
    bordered = F.pad(line, (0, 0, 1, 2), value=float("-inf"))
    assert (49 - 1) * 2 + 4 - 97 == 3
    assert_same_bits(model.pool(line), F.max_pool2d(bordered, (4, 1), (2, 1)))
    answer = model.predict(words)
    assert answer["class"].tolist() == answer["prob"].argmax(1).tolist()
    assert_within_roundings(answer["prob"].sum(1), torch.ones(3), 32, "fifteen quotients")


def trained_text_network(steps: int) -> tuple[float, float, float]:
    """Held-out accuracy of the network, of the largest class, and of a linear classifier."""
    example = script("text_cnn")
    torch.manual_seed(0)
    found = example.corpus(Path(sysconfig.get_paths()["stdlib"]))
    assert len(found.names) == 15
    learned, unseen = found.split(0.25, 0)
    assert not {found.texts[i] for i in learned} & {found.texts[i] for i in unseen}
    texts, labels = [found.texts[i] for i in learned], [found.labels[i] for i in learned]
    held, truth = [found.texts[i] for i in unseen], [found.labels[i] for i in unseen]
    vocabulary = example.Vocabulary(texts)
    model = example.TextCNN(len(vocabulary), 15)
    words = vocabulary.encode(texts)
    losses = example.train(model, words, torch.tensor(labels), steps, 0, example.Training())
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    right = float((model.predict(vocabulary.encode(held))["class"] == torch.tensor(truth)).float().mean())
    most = max(truth.count(label) for label in range(15)) / len(truth)
    return right, most, example.linear_baseline(texts, labels, held, truth)


@pytest.mark.slow
def test_trained_in_full_it_knows_most_docstrings() -> None:
    right, most, linear = trained_text_network(2000)
    assert right > 0.7 > most
    # A linear classifier on word counts is better on so little text; nobody should be told otherwise.
    assert linear > right - 0.05
