"""One contender in a process of its own: reads a request a line, answers a line, until its input ends."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any, TextIO

import torch

from outstride.bench.cases import Case
from outstride.bench.contenders import CONTENDERS, Call
from outstride.bench.work import Work, residual

LONGEST_ROUND = 1.0


class Worker:
    """Hold one prepared piece of work and time it when asked."""

    def __init__(self, contender: str, threads: int) -> None:
        self.build, self.threads = CONTENDERS[contender], threads
        self.work: Work | None = None
        self.call: Call | None = None
        self.repetitions = 1
        self.warm = False

    def ready(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer as soon as everything is loaded."""
        del request
        return {}

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        """Build, run a first time, then choose how many calls fill the shortest round."""
        self.call = self.work = None
        self.work = Work(request["source"], request["dtype"], request["training"])
        self._warm_up(request["dtype"])
        begin = time.perf_counter()
        self.call = self.build(self.work, self.threads)
        output = self.call()
        first = time.perf_counter() - begin
        once = min(self._seconds(1) for _ in range(2))
        self.repetitions = max(1, round(request["round_seconds"] * 1.2 / once)) if once < LONGEST_ROUND else 1
        return {"first_ms": first * 1e3, "flops": self.work.flops(), "output_shape": list(output.shape)}

    def _warm_up(self, dtype: str) -> None:
        """Load the library once, so that the first layer's first call is not charged with it."""
        if not self.warm:
            tiny = Case("tiny", "conv", 1, 1, 1, (1,), (1,), (1,), (0,), (0,), (1,))
            self.build(Work({"case": tiny.to_dict()}, dtype, training=False), self.threads)()
            self.warm = True

    def round(self, request: dict[str, Any]) -> dict[str, Any]:
        """Seconds a call, over as many calls as fill the round."""
        least = request["round_seconds"]
        seconds = self._seconds(self.repetitions)
        if seconds * self.repetitions < least:
            self.repetitions = round(self.repetitions * 1.5 * least / (seconds * self.repetitions)) + 1
            seconds = self._seconds(self.repetitions)
        return {"seconds": seconds}

    def residual(self, request: dict[str, Any]) -> dict[str, Any]:
        """Distance of this contender's result from float64."""
        del request
        assert self.work is not None
        assert self.call is not None
        return {"residual": residual(self.call(), self.work.reference())}

    def peak(self, request: dict[str, Any]) -> dict[str, Any]:
        """Multiply-add rate of this machine at this number of threads."""
        from outstride.ops.peak import peak

        return {"peak": peak(request.get("dtype", "float32"))}

    def _seconds(self, repetitions: int) -> float:
        assert self.call is not None
        begin = time.perf_counter()
        for _ in range(repetitions):
            self.call()
        return (time.perf_counter() - begin) / repetitions


def serve(worker: Worker, requests: TextIO, replies: TextIO) -> None:
    """Answer until the input ends; what goes wrong is an answer too."""
    for line in requests:
        request = json.loads(line)
        try:
            reply = getattr(worker, request["do"])(request)
        except Exception as error:  # noqa: BLE001 - the contest goes on without this contender
            first_line = (str(error).strip().splitlines() or [""])[0]
            reply = {"error": f"{type(error).__name__}: {first_line}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def main(contender: str, threads: int) -> None:
    """Entry of the process."""
    # The terminal sends Ctrl-C to every process of the group: the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Libraries print as they like; the answers keep a channel of their own.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(threads)
    serve(Worker(contender, threads), sys.stdin, replies)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
