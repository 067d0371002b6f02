"""One frozen, validated, hashable description of a convolution, transposed convolution or pooling layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, SupportsIndex, cast, get_args

from outstride.errors import ArgumentError
from outstride.layer.arguments import (
    PADDING_MODES,
    Pads,
    Pairs,
    Sizes,
    axis_count,
    check_output_padding,
    choice,
    flag,
    optional_whole,
    padding_pairs,
    per_axis,
    whole,
)
from outstride.layer.notation import LAYER_NAMES, read_call, write_call

Kind = Literal["conv", "conv_transpose", "max_pool", "avg_pool"]

KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True, init=False, repr=False)
class ConvSpec:
    """Everything about a layer that its sizes and its arithmetic depend on, as one tuple per axis.

    Args:
        kind: "conv", "conv_transpose", "max_pool" or "avg_pool".
        kernel_size: at least 1 on every axis; an int stands for every axis and then needs ``nd``.
        stride: at least 1; None (default) is 1, and the kernel size for pooling.
        padding: an int, one int per axis, one ``(low, high)`` pair per axis, "valid" or "same" (TensorFlow's
            rule). At most half the window for pooling.
        dilation: distance between taps, at least 1.
        output_padding: conv_transpose only; below stride or below dilation on every axis.
        groups: at least 1; divides both channel counts.
        padding_mode: zeros, reflect, replicate or circular; on a transposed layer the exact adjoint of the
            same convolution.
        in_channels, out_channels: None where they do not matter.
        bias: whether the layer adds one.
        ceil_mode: pooling only: a last window that starts inside the input or its low padding counts.
        count_include_pad, divisor_override: what avg_pool divides by; None (default) counts the padding, as
            torch does, but with padding="same" the elements inside alone, as TensorFlow does.
        nd: number of axes, 1 to 3, where ``kernel_size`` does not show it.

    Raises:
        ArgumentError: an argument is outside its range; the sentence says what would be legal.

    Example:
        >>> ConvSpec("conv_transpose", (4, 4), stride=2, padding=1, in_channels=64, out_channels=32)
        ConvTranspose2d(64, 32, 4, stride=2, padding=1)
    """

    kind: Kind
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Pairs | Literal["same"]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]
    groups: int
    padding_mode: str
    in_channels: int | None
    out_channels: int | None
    bias: bool
    ceil_mode: bool
    count_include_pad: bool
    divisor_override: int | None

    def __init__(
        self,
        kind: Kind,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Pads = 0,
        dilation: Sizes = 1,
        output_padding: Sizes = 0,
        groups: SupportsIndex = 1,
        padding_mode: str = "zeros",
        in_channels: SupportsIndex | None = None,
        out_channels: SupportsIndex | None = None,
        bias: bool = True,
        ceil_mode: bool = False,
        count_include_pad: bool | None = None,
        divisor_override: SupportsIndex | None = None,
        *,
        nd: int | None = None,
    ) -> None:
        choice("kind", kind, KINDS)
        choice("padding_mode", padding_mode, PADDING_MODES)
        axes = axis_count(kernel_size, nd)
        kernel = per_axis("kernel_size", kernel_size, axes, 1)
        step: Sizes = (kernel if kind.endswith("pool") else 1) if stride is None else stride
        fields: dict[str, object] = {
            "kind": kind,
            "kernel_size": kernel,
            "stride": per_axis("stride", step, axes, 1),
            "padding": padding_pairs(padding, axes),
            "dilation": per_axis("dilation", dilation, axes, 1),
            "output_padding": per_axis("output_padding", output_padding, axes, 0),
            "groups": whole("groups", groups, 1),
            "padding_mode": padding_mode,
            "in_channels": optional_whole("in_channels", in_channels, 0),
            "out_channels": optional_whole("out_channels", out_channels, 0),
            "bias": flag("bias", bias),
            "ceil_mode": flag("ceil_mode", ceil_mode),
            "count_include_pad": flag(
                "count_include_pad",
                _counted(kind, padding) if count_include_pad is None else count_include_pad,
            ),
            "divisor_override": optional_whole("divisor_override", divisor_override, 1),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        _check_channels(self)
        _check_output_padding(self)
        (_check_pool if self.is_pool else _check_conv)(self)

    @property
    def nd(self) -> int:
        """Number of axes that the kernel slides over."""
        return len(self.kernel_size)

    @property
    def is_pool(self) -> bool:
        """Whether the layer pools each channel by itself."""
        return self.kind in ("max_pool", "avg_pool")

    @property
    def window(self) -> tuple[int, ...]:
        """Elements from the first tap to the last, both counted: dilation * (kernel_size - 1) + 1."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))

    @classmethod
    def of(cls, layer: object) -> ConvSpec:
        """Describe a layer of torch, or of a class derived from one.

        Args:
            layer: one of torch's twelve convolution and pooling modules, or what derives from one.

        Returns:
            Its description.

        Raises:
            ArgumentError: the object derives from no such module, or holds values that have no meaning.

        Example:
            >>> import torch
            >>> ConvSpec.of(torch.nn.Conv2d(3, 8, 5, stride=2))
            Conv2d(3, 8, 5, stride=2)
        """
        bases = [base.__name__ for base in type(layer).__mro__]
        name = next((base for base in bases if base in LAYER_NAMES), None)
        if name is None or not hasattr(layer, "kernel_size"):
            raise ArgumentError(
                f"'layer' must be a convolution or pooling layer: got {type(layer).__name__}; "
                f"legal: {', '.join(LAYER_NAMES)} and what derives from them"
            )
        kind, nd = LAYER_NAMES[name]
        held: dict[str, Any] = {key: getattr(layer, key) for key in _HELD if hasattr(layer, key)}
        if kind.startswith("conv"):
            held["bias"] = getattr(layer, "bias", None) is not None
        return cls(cast(Kind, kind), nd=nd, **held)

    @classmethod
    def parse(cls, text: str, argument: str = "text") -> ConvSpec:
        """Read a layer as one writes it in torch; the text is taken apart, never evaluated.

        Args:
            text: such as ``ConvTranspose2d(64, 32, 4, stride=2, padding=1)``, with or without ``nn.``, or
                what torch prints for a layer. Channels may be left out: ``Conv2d(kernel_size=3)``.
            argument: what an error calls the text: the caller's own name for it.

        Returns:
            Its description; ``parse(repr(spec)) == spec`` for every spec.

        Raises:
            ArgumentError: an unknown layer or argument, a value that is no plain value or outside its range.

        Example:
            >>> ConvSpec.parse("nn.MaxPool2d(3)").stride
            (3, 3)
        """
        call = read_call(text, argument)
        if "kernel_size" not in call.arguments:
            raise ArgumentError(f"'kernel_size' must be given: got {text.strip()}; legal: kernel_size=3")
        arguments: dict[str, Any] = dict(call.arguments)
        return cls(cast(Kind, call.kind), nd=call.nd, **arguments)

    def __repr__(self) -> str:
        keywords: dict[str, object] = {"kernel_size": _short(self.kernel_size)}
        positional: list[object] = []
        if self.is_pool:
            positional = [keywords.pop("kernel_size")]
        elif self.in_channels is not None and self.out_channels is not None:
            positional = [self.in_channels, self.out_channels, keywords.pop("kernel_size")]
        else:
            known = {"in_channels": self.in_channels, "out_channels": self.out_channels}
            keywords |= {name: channels for name, channels in known.items() if channels is not None}
        usual = self.kernel_size if self.is_pool else (1,) * self.nd
        if self.stride != usual:
            keywords["stride"] = _short(self.stride)
        if self.padding == "same" or any(map(any, self.padding)):
            keywords["padding"] = self.padding if self.padding == "same" else _short_pairs(self.padding)
        if any(self.output_padding):
            keywords["output_padding"] = _short(self.output_padding)
        if any(d != 1 for d in self.dilation):
            keywords["dilation"] = _short(self.dilation)
        counted = _counted(self.kind, self.padding)
        for name, default in (_PRINTED_UNLESS | {"count_include_pad": counted}).items():
            if getattr(self, name) != default:
                keywords[name] = getattr(self, name)
        return write_call(self.kind, self.nd, positional, keywords)


_HELD = (
    *("kernel_size", "stride", "padding", "dilation", "output_padding", "groups", "padding_mode"),
    *("in_channels", "out_channels", "ceil_mode", "count_include_pad", "divisor_override"),
)
_PRINTED_UNLESS = {
    "groups": 1,
    "bias": True,
    "padding_mode": "zeros",
    "ceil_mode": False,
    "count_include_pad": None,
    "divisor_override": None,
}


def _counted(kind: Kind, padding: Pads) -> bool:
    """Whether an average counts the padding where nobody says: torch's rule, and TensorFlow's for "same"."""
    return kind != "avg_pool" or padding != "same"


def _check_channels(spec: ConvSpec) -> None:
    for name in ("in_channels", "out_channels"):
        channels = getattr(spec, name)
        if channels is not None and channels % spec.groups:
            legal = ", ".join(str(g) for g in range(1, min(channels, 64) + 1) if channels % g == 0)
            raise ArgumentError(
                f"{name!r} must be divisible by 'groups': got {name}={channels} with groups={spec.groups}; "
                f"legal: groups={legal}{', ...' if channels > 64 else ''}"
            )


def _check_output_padding(spec: ConvSpec) -> None:
    if not any(spec.output_padding):
        return
    if spec.kind != "conv_transpose":
        raise ArgumentError(
            f"'output_padding' must be 0 except on a transposed convolution: got output_padding="
            f"{spec.output_padding} for {spec.kind}; legal: 0"
        )
    check_output_padding(spec.output_padding, spec.stride, spec.dilation, spec.padding == "same")


def _check_conv(spec: ConvSpec) -> None:
    for name, default in (("ceil_mode", False), ("count_include_pad", True), ("divisor_override", None)):
        if getattr(spec, name) != default:
            raise ArgumentError(
                f"{name!r} must be left out except for pooling: got {name}={getattr(spec, name)!r} for "
                f"{spec.kind}; legal: {default}"
            )


def _check_pool(spec: ConvSpec) -> None:
    only: list[tuple[str, object]] = [("groups", 1), ("padding_mode", "zeros")]
    if spec.kind == "avg_pool":
        only.append(("dilation", (1,) * spec.nd))
    else:
        only += [("count_include_pad", True), ("divisor_override", None)]
    if spec.padding == "same":
        only.append(("ceil_mode", False))
    for name, default in only:
        if getattr(spec, name) != default:
            raise ArgumentError(
                f"{name!r} has no other meaning in this {spec.kind}: got {name}={getattr(spec, name)!r}; "
                f"legal: {default!r}"
            )
    if spec.padding == "same":
        return
    half = tuple(window // 2 for window in spec.window)
    # A window that lies wholly in the padding has no maximum and no average.
    if any(max(pair) > most for pair, most in zip(spec.padding, half, strict=True)):
        raise ArgumentError(
            f"'padding' must be at most half the window on every axis, or a window could see padding only: "
            f"got padding={_short_pairs(spec.padding)} with kernel_size={spec.kernel_size}, "
            f"dilation={spec.dilation}; legal: at most {half}"
        )


def _short(values: tuple[int, ...]) -> object:
    return values[0] if len(set(values)) == 1 else values


def _short_pairs(pairs: Pairs) -> object:
    if any(low != high for low, high in pairs):
        return pairs
    return _short(tuple(low for low, _ in pairs))
