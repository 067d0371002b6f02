"""One frozen, validated, hashable description of a convolution, transposed convolution or pooling layer."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, SupportsIndex, cast, get_args

from outstride.errors import ArgumentError
from outstride.notation import LAYER_NAMES, read_call, write_call

Kind = Literal["conv", "conv_transpose", "max_pool", "avg_pool"]
Sizes = SupportsIndex | Sequence[SupportsIndex]
Pads = SupportsIndex | str | Sequence[SupportsIndex | Sequence[SupportsIndex]]
Pairs = tuple[tuple[int, int], ...]

KINDS: tuple[str, ...] = get_args(Kind)
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


@dataclass(frozen=True, init=False, repr=False)
class ConvSpec:
    """Everything about a layer that its sizes and its arithmetic depend on, as one tuple per axis.

    Args:
        kind: "conv", "conv_transpose", "max_pool" or "avg_pool".
        kernel_size: at least 1 on every axis; an int stands for every axis and then needs ``nd``.
        stride: at least 1; None (default) is 1, and the kernel size for pooling.
        padding: an int, one int per axis, one ``(low, high)`` pair per axis, "valid" or "same" (TensorFlow's rule).
            At most half the window for pooling.
        dilation: distance between taps, at least 1.
        output_padding: conv_transpose only; below stride or below dilation on every axis.
        groups: at least 1; divides both channel counts.
        padding_mode: zeros, reflect, replicate or circular; on a transposed layer the exact adjoint of the same
            convolution.
        in_channels, out_channels: None where they do not matter.
        bias: whether the layer adds one.
        ceil_mode: pooling only: a last window that starts inside the input or its low padding counts.
        count_include_pad, divisor_override: what avg_pool divides by.
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
        count_include_pad: bool = True,
        divisor_override: SupportsIndex | None = None,
        *,
        nd: int | None = None,
    ) -> None:
        _choice("kind", kind, KINDS)
        _choice("padding_mode", padding_mode, PADDING_MODES)
        axes = _axes(kernel_size, nd)
        kernel = _per_axis("kernel_size", kernel_size, axes, 1)
        step: Sizes = (kernel if kind.endswith("pool") else 1) if stride is None else stride
        fields: dict[str, object] = {
            "kind": kind,
            "kernel_size": kernel,
            "stride": _per_axis("stride", step, axes, 1),
            "padding": _pairs(padding, axes),
            "dilation": _per_axis("dilation", dilation, axes, 1),
            "output_padding": _per_axis("output_padding", output_padding, axes, 0),
            "groups": _whole("groups", groups, groups, 1),
            "padding_mode": padding_mode,
            "in_channels": None if in_channels is None else _whole("in_channels", in_channels, in_channels, 0),
            "out_channels": None if out_channels is None else _whole("out_channels", out_channels, out_channels, 0),
            "bias": _flag("bias", bias),
            "ceil_mode": _flag("ceil_mode", ceil_mode),
            "count_include_pad": _flag("count_include_pad", count_include_pad),
            "divisor_override": (
                None if divisor_override is None else _whole("divisor_override", divisor_override, divisor_override, 1)
            ),
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
        """Input elements from the first tap to the last, both counted, per axis: dilation * (kernel_size - 1) + 1."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))

    @classmethod
    def of(cls, layer: object) -> ConvSpec:
        """Describe a layer of torch, or of a class derived from one.

        Args:
            layer: one of torch's twelve convolution and pooling modules; a subclass counts as what it derives from.

        Returns:
            Its description.

        Raises:
            ArgumentError: the object derives from no such module, or holds values that have no meaning.

        Example:
            >>> ConvSpec.of(torch.nn.Conv2d(3, 8, 5, stride=2))
            Conv2d(3, 8, 5, stride=2)
        """
        bases = [base.__name__.removeprefix("Lazy") for base in type(layer).__mro__]
        name = next((base for base in bases if base in LAYER_NAMES), None)
        if name is None:
            raise ArgumentError(
                f"'layer' must be a convolution or pooling layer: got {type(layer).__name__}; "
                f"legal: {', '.join(LAYER_NAMES)} and what derives from them"
            )
        kind, nd = LAYER_NAMES[name]
        given = vars(layer) if hasattr(layer, "__dict__") else {}
        names = ("kernel_size", "stride", "padding", "dilation", "output_padding", "groups", "padding_mode")
        pooling = ("ceil_mode", "count_include_pad", "divisor_override")
        held = {key: given[key] for key in (*names, *pooling, "in_channels", "out_channels") if key in given}
        if kind.startswith("conv"):
            held["bias"] = getattr(layer, "bias", None) is not None
        return cls(cast(Kind, kind), nd=nd, **cast(dict[str, Any], held))

    @classmethod
    def parse(cls, text: str) -> ConvSpec:
        """Read a layer as one writes it in torch; the text is taken apart, never evaluated.

        Args:
            text: such as ``ConvTranspose2d(64, 32, 4, stride=2, padding=1)``, with or without ``nn.``, or what
                torch prints for a layer. Channels may be left out: ``Conv2d(kernel_size=3)``.

        Returns:
            Its description; ``parse(repr(spec)) == spec`` for every spec.

        Raises:
            ArgumentError: an unknown layer or argument, a value that is no plain value or outside its range.

        Example:
            >>> ConvSpec.parse("nn.MaxPool2d(3)").stride
            (3, 3)
        """
        call = read_call(text)
        if "kernel_size" not in call.arguments:
            raise ArgumentError(f"'kernel_size' must be given: got {text.strip()}; legal: {text.strip()[:-1]}, kernel_size=3)")
        return cls(cast(Kind, call.kind), nd=call.nd, **cast(dict[str, Any], call.arguments))

    def __repr__(self) -> str:
        positional: list[object] = [_short(self.kernel_size)]
        keywords: dict[str, object] = {}
        if not self.is_pool:
            if self.in_channels is not None and self.out_channels is not None:
                positional = [self.in_channels, self.out_channels, *positional]
            else:
                keywords = {"in_channels": self.in_channels, "out_channels": self.out_channels}
                keywords = {**{key: value for key, value in keywords.items() if value is not None}}
                keywords["kernel_size"] = positional.pop()
        usual = self.kernel_size if self.is_pool else (1,) * self.nd
        if self.stride != usual:
            keywords["stride"] = _short(self.stride)
        if self.padding == "same" or any(map(any, self.padding)):
            keywords["padding"] = self.padding if self.padding == "same" else _short_pairs(self.padding)
        if any(self.output_padding):
            keywords["output_padding"] = _short(self.output_padding)
        if any(d != 1 for d in self.dilation):
            keywords["dilation"] = _short(self.dilation)
        for name, default in _PRINTED_UNLESS.items():
            if getattr(self, name) != default:
                keywords[name] = getattr(self, name)
        return write_call(self.kind, self.nd, positional, keywords)


_PRINTED_UNLESS = {
    "groups": 1,
    "bias": True,
    "padding_mode": "zeros",
    "ceil_mode": False,
    "count_include_pad": True,
    "divisor_override": None,
}


def _axes(kernel_size: object, nd: int | None) -> int:
    if nd is None:
        if not isinstance(kernel_size, Iterable) or isinstance(kernel_size, str):
            raise ArgumentError(
                f"'nd' must say how many axes there are where 'kernel_size' is one number: got kernel_size="
                f"{kernel_size!r}; legal: nd=1, 2 or 3, or a tuple with one number per axis"
            )
        axes = len(tuple(kernel_size))
    else:
        axes = _whole("nd", nd, nd, 1)
    if not 1 <= axes <= 3:
        raise ArgumentError(f"'kernel_size' must have 1, 2 or 3 axes: got {axes}; legal: 1, 2 or 3")
    return axes


def _choice(name: str, value: object, legal: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in legal:
        raise ArgumentError(f"{name!r} must be one of its names: got {name}={value!r}; legal: {', '.join(legal)}")


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ArgumentError(f"{name!r} must be a truth value: got {name}={value!r}; legal: True or False")
    return value


def _whole(name: str, value: object, given: object, least: int) -> int:
    """One integer of at least ``least``; ``given`` is what the caller wrote, shown when it is not."""
    try:
        if isinstance(value, bool) or isinstance(value, str):
            raise TypeError
        number = operator.index(cast(SupportsIndex, value))
    except TypeError:
        raise ArgumentError(f"{name!r} must be an integer: got {name}={given!r}; legal: {least} or more") from None
    if number < least:
        raise ArgumentError(f"{name!r} must be at least {least}: got {name}={given!r}; legal: {least} or more")
    return number


def _entries(name: str, value: object, axes: int, extra: str = "") -> tuple[object, ...]:
    if not isinstance(value, Iterable) or isinstance(value, str):
        return (value,) * axes
    entries = tuple(value)
    # torch's functional form takes a list of one number as that number for every axis.
    if len(entries) == 1 and not isinstance(entries[0], Iterable):
        return entries * axes
    if len(entries) != axes:
        raise ArgumentError(
            f"{name!r} must have one entry per axis: got {name}={value!r} for {axes} "
            f"{'axis' if axes == 1 else 'axes'}; legal: an integer or {axes} of them{extra}"
        )
    return entries


def _per_axis(name: str, value: object, axes: int, least: int) -> tuple[int, ...]:
    return tuple(_whole(name, entry, value, least) for entry in _entries(name, value, axes))


def _pairs(padding: object, axes: int) -> Pairs | Literal["same"]:
    if isinstance(padding, str):
        _choice("padding", padding, ("valid", "same"))
        return "same" if padding == "same" else ((0, 0),) * axes
    pairs: list[tuple[int, int]] = []
    for entry in _entries("padding", padding, axes, ", or (low, high) pairs"):
        ends = tuple(entry) if isinstance(entry, Iterable) and not isinstance(entry, str) else (entry, entry)
        if len(ends) != 2:
            raise ArgumentError(
                f"'padding' must be an integer or a (low, high) pair on every axis: got padding={padding!r}; "
                f"legal: two integers of 0 or more in each pair"
            )
        pairs.append((_whole("padding", ends[0], padding, 0), _whole("padding", ends[1], padding, 0)))
    return tuple(pairs)


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
    if spec.padding == "same":
        raise ArgumentError(
            f"'output_padding' must be 0 with padding='same', which already fixes the output at input * stride: "
            f"got output_padding={spec.output_padding}; legal: 0"
        )
    bounds = [max(s, d) - 1 for s, d in zip(spec.stride, spec.dilation, strict=True)]
    if any(o > most for o, most in zip(spec.output_padding, bounds, strict=True)):
        legal = " and ".join("0" if m == 0 else "0 or 1" if m == 1 else f"0 to {m}" for m in dict.fromkeys(bounds))
        if len(set(bounds)) > 1:
            legal = "at most " + repr(tuple(bounds))
        raise ArgumentError(
            f"'output_padding' must be smaller than 'stride' or 'dilation' on every axis: got output_padding="
            f"{spec.output_padding} with stride={spec.stride}, dilation={spec.dilation}; legal: {legal}."
        )


def _check_conv(spec: ConvSpec) -> None:
    for name, default in (("ceil_mode", False), ("count_include_pad", True), ("divisor_override", None)):
        if getattr(spec, name) != default:
            raise ArgumentError(
                f"{name!r} must be left out except for pooling: got {name}={getattr(spec, name)!r} for {spec.kind}; "
                f"legal: {default}"
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
    for axis, (pair, window) in enumerate(zip(spec.padding, spec.window, strict=True)):
        # A window that lies wholly in the padding has no maximum and no average.
        if max(pair) > window // 2:
            raise ArgumentError(
                f"'padding' must be at most half the window on every axis, or a window could see padding alone: got "
                f"padding={_short_pairs(spec.padding)} with kernel_size={_short(spec.kernel_size)}, on axis {axis} "
                f"{max(pair)} for a window of {window}; legal: at most {_short(tuple(w // 2 for w in spec.window))}"
            )


def _short(values: tuple[int, ...]) -> object:
    return values[0] if len(set(values)) == 1 else values


def _short_pairs(pairs: Pairs) -> object:
    if any(low != high for low, high in pairs):
        return pairs
    return _short(tuple(low for low, _ in pairs))
