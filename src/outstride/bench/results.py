"""The file of results: one for a machine and a commit, written whole, read again to go on with it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from outstride.bench.contest import Rules
from outstride.bench.machine import facts, processor
from outstride.bench.table import Row, summary
from outstride.errors import ArgumentError
from outstride.output.files import write_whole


@dataclass
class Results:
    """Rows of tables and the observations of studies, with the machine they were made on."""

    machine: dict[str, Any] = field(default_factory=facts)
    rules: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    studies: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    limits: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Keep a row, in place of the one that was measured before under the same name."""
        self.rows = [other for other in self.rows if other.key != row.key] + [row]

    def observe(self, study: str, entry: dict[str, Any], key: Sequence[str]) -> None:
        """Keep an observation, in place of the one with the same values under `key`."""
        others = self.studies.get(study, [])
        kept = [other for other in others if any(other[name] != entry[name] for name in key)]
        self.studies[study] = [*kept, entry]

    def to_dict(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "rules": self.rules,
            "summary": summary(self.rows),
            "limits": self.limits,
            "studies": self.studies,
            "rows": [row.to_dict() for row in self.rows],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Results:
        rows = [Row.from_dict(row) for row in content["rows"]]
        return cls(content["machine"], content["rules"], rows, content["studies"], content["limits"])

    def save(self, path: Path) -> None:
        """Write beside and rename, so that an interrupted run leaves the last whole file."""
        # A row a line: what a new run changes can be seen in a comparison of two files.
        parts = []
        for name, value in self.to_dict().items():
            lines = ",\n".join(map(json.dumps, value)) if isinstance(value, list) else json.dumps(value)
            parts.append(f'"{name}": [\n{lines}\n]' if isinstance(value, list) else f'"{name}": {lines}')
        text = "{\n" + ",\n".join(parts) + "\n}\n"
        write_whole(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def read(path: Path) -> Results:
    """Read a file that `Results.save` wrote."""
    try:
        return Results.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArgumentError(
            f"'results' must be a file that outstride bench --out wrote: got {str(path)!r} ({error})."
        ) from error


def begin(path: Path | None, rules: Rules, resume: bool) -> Results:
    """New results, or those that a file holds already; rows of another machine are not mixed with ours."""
    results = Results(rules=asdict(rules))
    if resume and path is not None and path.exists():
        found = read(path)
        theirs, ours = processor(found.machine), processor(results.machine)
        if theirs != ours:
            raise ArgumentError(
                f"'out' must hold results of this machine, {ours}, to go on with: got those of {theirs}."
            )
        results.rows, results.studies, results.limits = found.rows, found.studies, found.limits
    return results


def file_name(machine: Mapping[str, Any]) -> str:
    """The name of a machine's results at a commit, for a folder that holds several."""
    words = [str(machine["cpu"]), f"{machine['cores']} cores", str(machine["commit"] or "no commit")]
    return "-".join(re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-") for word in words) + ".json"
