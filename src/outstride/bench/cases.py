"""What is timed: one layer at one input size, read from a table, from text or from a layer."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from outstride.errors import ArgumentError

if TYPE_CHECKING:
    from outstride.layer.spec import ConvSpec

COLUMNS = (
    "id,kind,nd,batch,in_channels,input_size,out_channels,kernel_size,stride,"
    "padding,output_padding,dilation,groups,model"
).split(",")
KINDS = ("conv", "conv_transpose")


def parse_size(text: str, argument: str = "SIZE", minimum: int = 0) -> tuple[int, ...]:
    """Read a size such as "32x336" or "110208" into a tuple of whole numbers."""
    parts = text.lower().replace(",", "x").split("x")
    # Python itself refuses to read numbers of thousands of digits, and no size needs twenty.
    written = all(part.strip().isdecimal() and len(part) < 20 for part in parts)
    if not written or any(int(part) < minimum for part in parts):
        raise ArgumentError(
            f"'{argument}' must be whole numbers of at least {minimum} and at most 19 digits joined by x or "
            f"by commas: got {text[:40]!r}; legal: 224x224 or 16000."
        )
    return tuple(int(part) for part in parts)


@dataclass(frozen=True)
class Case:
    """One convolution or transposed convolution at one batch and input size."""

    id: str
    kind: str
    batch: int
    in_channels: int
    out_channels: int
    input_size: tuple[int, ...]
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    bias: bool = True
    model: str = ""

    @property
    def nd(self) -> int:
        return len(self.kernel_size)

    @property
    def transposed(self) -> bool:
        return self.kind == "conv_transpose"

    @property
    def output_size(self) -> tuple[int, ...]:
        from outstride.geometry import output_size

        return output_size(self.spec(), self.input_size)

    def spec(self) -> ConvSpec:
        """The same layer as the package's own frozen description."""
        from outstride.layer.spec import ConvSpec

        return ConvSpec(
            kind=cast(Any, self.kind),
            kernel_size=self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            output_padding=self.output_padding,
            groups=self.groups,
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            bias=self.bias,
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Case:
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**fields)

    @classmethod
    def from_row(cls, row: Mapping[str, str]) -> Case:
        """Read one row of a table with the columns of `COLUMNS`."""
        sizes: dict[str, Any] = {
            name: parse_size(row[name], name)
            for name in ("input_size", "kernel_size", "stride", "padding", "output_padding", "dilation")
        }
        counts: dict[str, Any] = {
            name: parse_size(row[name], name, minimum=1)[0]
            for name in ("batch", "in_channels", "out_channels", "groups")
        }
        nd = parse_size(row["nd"], "nd", minimum=1)[0]
        if row["kind"] not in KINDS:
            raise ArgumentError(f"'kind' must be one of {', '.join(KINDS)}: got {row['kind']!r}.")
        for name, size in sizes.items():
            if len(size) != nd:
                raise ArgumentError(f"'{name}' must have nd={nd} numbers: got {row[name]!r}.")
        case = cls(id=row["id"], kind=row["kind"], model=row["model"], **counts, **sizes)
        case.spec()
        return case

    @classmethod
    def from_spec(cls, spec: ConvSpec, batch: int, input_size: tuple[int, ...], name: str = "layer") -> Case:
        """Take a layer's description; only what torch's own layer can express can be timed against it."""
        if spec.kind not in KINDS:
            raise ArgumentError(f"'LAYER' must be a conv or conv_transpose layer: got {spec.kind}.")
        if spec.in_channels is None or spec.out_channels is None:
            raise ArgumentError("'LAYER' must name in_channels and out_channels: got none.")
        if len(input_size) != spec.nd:
            raise ArgumentError(
                f"'size' must have one number for each of the layer's {spec.nd} axes: got {len(input_size)}."
            )
        if spec.padding_mode != "zeros":
            raise ArgumentError(f"'padding_mode' must be 'zeros' to be timed: got {spec.padding_mode!r}.")
        return cls(
            id=name,
            kind=spec.kind,
            batch=batch,
            in_channels=spec.in_channels,
            out_channels=spec.out_channels,
            input_size=input_size,
            kernel_size=spec.kernel_size,
            stride=spec.stride,
            padding=_symmetric(spec, input_size),
            output_padding=spec.output_padding,
            dilation=spec.dilation,
            groups=spec.groups,
            bias=spec.bias,
        )


def _symmetric(spec: ConvSpec, input_size: tuple[int, ...]) -> tuple[int, ...]:
    from outstride.geometry import resolved_padding

    padding = resolved_padding(spec, input_size)
    if any(low != high or low < 0 for low, high in padding):
        raise ArgumentError(
            f"'padding' must be the same on both sides to be timed against torch: got {padding}."
        )
    return tuple(low for low, _ in padding)


def read_cases(path: Path) -> list[Case]:
    """Read a table of layers; a row that says nothing legal is refused with its line number."""
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"'cases' must be a readable CSV file: got {str(path)!r} ({error}).") from error
    cases = []
    for number, row in enumerate(rows, start=2):
        missing = [name for name in COLUMNS if row.get(name) is None]
        if missing:
            raise ArgumentError(
                f"'cases' must have the columns {', '.join(COLUMNS)}: line {number} lacks {missing[0]}."
            )
        try:
            cases.append(Case.from_row(row))
        except ValueError as error:
            raise ArgumentError(f"line {number} of {path}: {error}") from error
    if not cases:
        raise ArgumentError(f"'cases' must hold at least one layer: {str(path)!r} holds none.")
    return cases


def select(cases: Iterable[Case], patterns: list[str]) -> list[Case]:
    """Keep the cases whose id or model holds one of the patterns, or all where none is given."""
    cases = list(cases)
    chosen = named({case.id: f"{case.id} {case.model}" for case in cases}, patterns)
    return [case for case in cases if case.id in chosen]


def named(words: Mapping[str, str], patterns: list[str]) -> list[str]:
    """Keep the ids whose words hold one of the patterns, or all where none is given."""
    lowered = [pattern.lower() for pattern in patterns]
    chosen = [name for name, text in words.items() if not lowered or any(w in text.lower() for w in lowered)]
    if not chosen:
        raise ArgumentError(
            f"'filter' must be part of the id or the model of at least one case: got "
            f"{', '.join(patterns)}; legal: {', '.join(list(words)[:4])}, ..."
        )
    return chosen
