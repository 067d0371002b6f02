"""``python -m tests.fuzz``: play cases until they, the seconds or the user's patience are over."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from dataclasses import asdict
from pathlib import Path

from outstride.engine import runtime
from tests.fuzz.campaign import Campaign, Failure, Report, judge_case, play, play_here
from tests.fuzz.drawn import ALGORITHMS, parse
from tests.fuzz.graphs.drawing import parse as parse_graph

_FAILURES = Path(".pytest_cache") / "fuzz"


def main(arguments: list[str]) -> int:
    """Play what the command line asks for; 1 where a case went wrong."""
    parser = argparse.ArgumentParser(
        "python -m tests.fuzz", description="Drawn layers and models, judged by the laws."
    )
    parser.add_argument("--case", help="play this one case, the line that a failure printed")
    parser.add_argument("--seed", type=int, help="of all cases; a new one unless it is given")
    parser.add_argument("--first", type=int, default=0, help="the number to begin with")
    parser.add_argument("--cases", type=int, help="how many")
    parser.add_argument("--seconds", type=float, help="how long at most")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument(
        "--instruction-set", action="append", default=[], choices=runtime.available(),
        help="whose plans run; may be given more than once; all that this processor has unless it is given",
    )  # fmt: skip
    parser.add_argument(
        "--algorithm", action="append", default=[], choices=sorted(set(ALGORITHMS)),
        help="what layers are computed by; may be given more than once; all unless it is given",
    )  # fmt: skip
    parser.add_argument("--graphs", action="store_true", help="compiled models of several operators")
    parser.add_argument("--segment", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.case is not None:
        is_graph = "number" in json.loads(given.case)
        judge_case(parse_graph(given.case) if is_graph else parse(given.case))
        print("nothing is wrong with this case")
        return 0
    campaign = Campaign(
        secrets.randbelow(1 << 32) if given.seed is None else given.seed, given.first, given.cases,
        given.seconds, tuple(given.instruction_set), given.jobs, tuple(given.algorithm),
        given.graphs,
    )  # fmt: skip
    if given.segment is not None:
        play_here(campaign, range(*map(int, given.segment.split(":"))))
        return 0
    return _watched(campaign)


def _watched(campaign: Campaign) -> int:
    """Play with a line of progress; failures are printed and kept in a file."""
    _FAILURES.mkdir(parents=True, exist_ok=True)
    kept, told = _FAILURES / f"{campaign.seed}.jsonl", -10.0

    def found(failure: Failure) -> None:
        with kept.open("a") as file:
            file.write(json.dumps(asdict(failure)) + "\n")
        print(f"\n{failure}", flush=True)

    def tell(report: Report) -> None:
        nonlocal told
        if report.seconds - told >= 10:
            told = report.seconds
            print(report, flush=True)

    report = play(campaign, tell, found)
    print(report if not report.failures else f"{report}; they are in {kept}")
    return int(bool(report.failures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
