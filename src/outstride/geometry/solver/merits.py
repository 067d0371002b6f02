"""What is good or bad about one axis of a layer, in closed forms with their proofs.

Throughout, k is the kernel size, s the stride, d the dilation, w = d * (k - 1) + 1 the window, l and h the
paddings and e the output_padding. A convolution's output j reads the inputs s * j - l + d * t for the taps t
= 0 .. k - 1; a transposed layer's input i is stamped onto the outputs s * i - l + d * t. The side with the
small pixels is called fine: the input of a convolution or pooling, the output of a transposed layer.
"""

from __future__ import annotations

from fractions import Fraction
from math import gcd

from outstride.geometry.solver.choices import Choice, Question, made_size


def remainder(question: Question, choice: Choice) -> int:
    """Fine elements left over on the high side: r = fine - (s * (coarse - 1) + w - l - h).

    For a transposed layer that is output_padding, by the formula of its size. For a convolution it is the
    remainder of the division in the formula, 0 .. s - 1; a pooling that rounds up can have a negative one.
    """
    reach = choice.stride * (question.coarse - 1) + choice.window
    return question.fine - reach + choice.low + choice.high


def misfit(question: Question, choice: Choice) -> int:
    """How far the layer is from being a scale by its stride: |fine - s * coarse|, 0 if exact for every size.

    Law: the size f(i) of a transposed layer's output obeys f(i + 1) = f(i) + s, and a convolution's or
    pooling's f(i + s) = f(i) + 1, rounded down or up: in their formulas i meets only additions and one
    division by s, and the rule that drops a last window compares two sizes that both grow by s. So if f(i) =
    s * i for one i, it holds for every i; and if f(s * m) = m for one m, it holds for every m. Nothing but
    the stride can be the scale. Inserting the formulas: a transposed layer is exact if and only if w + e - l
    - h = s, a convolution if and only if w - s <= l + h <= w - 1.
    """
    return abs(question.fine - choice.stride * question.coarse)


def shift(question: Question, choice: Choice) -> Fraction:
    """How far the picture's middle is moved, in fine pixels: (h - l - r) / 2; negative towards the low side.

    A coarse element c sits over the middle of its window, at the fine position s * c - l + (w - 1) / 2. The
    middle of the coarse side, c = (coarse - 1) / 2, sits at s * (coarse - 1) / 2 - l + (w - 1) / 2; the
    middle of the fine side is (fine - 1) / 2 with fine = s * (coarse - 1) + w - l - h + r. Their difference
    is (h - l - r) / 2.

    So with equal paddings a transposed layer is centred if and only if its output_padding is 0, which costs
    half a pixel for each element, and a convolution if and only if the division leaves no remainder. For an
    exact scale this is the shift against the half-pixel grid of image resizing: there the fine pixel over a
    coarse element's middle is s * c + (s - 1) / 2, and w - l - h = s - r makes the two differences one and
    the same.
    """
    return Fraction(choice.high - choice.low - remainder(question, choice), 2)


def shares(choice: Choice) -> tuple[int, ...]:
    """How many taps fall on each fine residue modulo s: per output phase, or per input of a strided window.

    Tap t touches the fine positions that are d * t - l modulo s.
    """
    counts = [0] * choice.stride
    for tap in range(choice.kernel_size):
        counts[(choice.dilation * tap - choice.low) % choice.stride] += 1
    return tuple(counts)


def is_even(choice: Choice) -> bool:
    """Whether every fine residue has the same number of taps: s = 1, or gcd(d, s) = 1 and s divides k.

    d * t modulo s runs through the s / g multiples of g = gcd(d, s) and then repeats. If g > 1 some residue
    has none and another has some. If g = 1 each run of s taps touches every residue once, and a rest of k
    modulo s taps touches that many residues once more.
    """
    s = choice.stride
    return s == 1 or (gcd(choice.dilation, s) == 1 and choice.kernel_size % s == 0)


def has_holes(choice: Choice) -> bool:
    """Whether some fine residue has no tap at all: min(k, s / gcd(d, s)) < s.

    By the cycle in ``is_even`` the taps touch min(k, s / g) different residues.
    """
    return min(choice.kernel_size, choice.stride // gcd(choice.dilation, choice.stride)) < choice.stride


def overlaps(choice: Choice) -> bool:
    """Whether neighbouring stamps or windows share fine elements, so that there is no seam: w > s."""
    return choice.window > choice.stride


def idle(question: Question, choice: Choice) -> tuple[int, int]:
    """Elements at the borders to no purpose: inputs that nothing reads, outputs that read no input.

    A stamp or window at s * c - l, w long, lies wholly before the fine side if s * c + w - 1 < l, and wholly
    behind it if s * c - l >= fine: inputs of a transposed layer that are lost, outputs of a convolution that
    see only padding. Behind the last stamp or window s * (coarse - 1) - l + w <= fine leaves r - h elements:
    outputs that hold the bias alone, inputs that are never read.
    """
    s, coarse = choice.stride, question.coarse
    before = _at_least_one_step(choice.low - choice.window + 1, s)
    behind = coarse - 1 - (question.fine - 1 + choice.low) // s
    outside = min(coarse, max(before, 0) + max(behind, 0))
    beyond = max(0, remainder(question, choice) - choice.high)
    return (outside, beyond) if question.kind == "conv_transpose" else (beyond, outside)


def multiply_adds(question: Question, choice: Choice) -> int:
    """Multiply-adds of the axis: the coarse size times k, for each tap of each coarse element is one.

    Those with the padding are counted, as every other count does. The axes' figures multiply.
    """
    return question.coarse * choice.kernel_size


def rounds_down(question: Question, choice: Choice) -> bool:
    """Whether rounding down gives the size that is asked."""
    plain = choice._replace(ceil_mode=False)
    return made_size(question.kind, plain, question.input_size) == question.output_size


def _at_least_one_step(distance: int, step: int) -> int:
    return max(0, -(-distance // step))
