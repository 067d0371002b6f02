"""One contender in a process of its own: reads a request a line, answers a line, until its input ends."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import nn

from outstride.bench import limits, observations
from outstride.bench.cases import Case
from outstride.bench.contenders import CONTENDERS, Form
from outstride.bench.work import Work, residual

LONGEST_ROUND = 1.0
# A round in which somebody else took the core is taken again; the kernel itself takes it now and then.
RETAKES, SWITCHES_A_SECOND, PAGE_WEIGHT, BUSY_SHARE = 2, 10, 1000, 0.8

# What loads a library: the smallest layer, and the smallest model, on which exporters are loaded, too.
TINY: dict[str, dict[str, Any]] = {
    "layer": {
        "case": Case("tiny", "conv", 1, 1, 1, (1, 1), (1, 1), (1, 1), (0, 0), (0, 0), (1, 1)).to_dict()
    },
    "model": {"model": "outstride.bench.worker:tiny", "shape": [1, 1, 1, 1]},
}


def tiny() -> nn.Module:
    """The smallest model."""
    return nn.Sequential(nn.Conv2d(1, 1, 1))


class Worker:
    """Hold one prepared piece of work and time it when asked."""

    def __init__(self, contender: str, threads: int) -> None:
        self.contender, self.threads = CONTENDERS[contender], threads
        self.work: Work | None = None
        self.form: Form | None = None
        self.repetitions = 1
        self.warm: set[str] = set()

    def ready(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer as soon as everything is loaded."""
        del request
        return {}

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        """Build every form, run each a first time, keep the fastest; choose how many calls fill a round."""
        self.form = self.work = None
        self.work = work = Work(request["source"], request["dtype"], request["training"])
        self._warm_up(work, request["dtype"])
        first, best, memory = None, float("inf"), None
        forms = self.contender.forms(work, self.threads)
        while True:
            # Only a model has much between its input and its output.
            before = observations.resident(work) if work.case is None else None
            begin = time.perf_counter()
            if (form := next(forms, None)) is None:
                break
            form.run()
            first = time.perf_counter() - begin if first is None else first
            held = observations.highest(form, work, before)
            once = _seconds(form, 1)
            if once < LONGEST_ROUND:
                once = min(once, _seconds(form, max(1, round(request["round_seconds"] / 4 / once))))
            if once < best:
                best, self.form, memory = once, form, held
        assert first is not None
        least = request["round_seconds"]
        self.repetitions = max(1, round(least * 1.2 / best)) if best < LONGEST_ROUND else 1
        assert self.form is not None
        facts = {"form": self.form.name, "plan": self.form.plan, "flops": work.flops(), "bytes": work.bytes()}
        sizes = {"input_shape": tuple(work.input.shape), "weight_bytes": work.weight_bytes()}
        return {"first_ms": first * 1e3, "memory_bytes": memory, **facts, **sizes}

    def _warm_up(self, work: Work, dtype: str) -> None:
        """Load the library once, so that the first piece of work's first call is not charged with it."""
        kind = "layer" if work.case is not None else "model"
        if kind not in self.warm:
            for form in self.contender.forms(Work(TINY[kind], dtype, False), self.threads):
                form.run()
            self.warm.add(kind)

    def round(self, request: dict[str, Any]) -> dict[str, Any]:
        """Seconds a call, over as many calls as fill the round, of the least disturbed of a few tries."""
        assert self.form is not None
        least = request["round_seconds"]
        tries: list[tuple[bool, float]] = []
        while len(tries) <= RETAKES:
            before, busy = _interruptions(), time.process_time()
            seconds = _seconds(self.form, self.repetitions)
            busy = time.process_time() - busy
            whole = seconds * self.repetitions
            if whole < least:
                self.repetitions = round(self.repetitions * 1.5 * least / whole) + 1
                continue
            # Whoever is stopped from outside is not interrupted, but the clock goes on without it.
            disturbed = _interruptions() - before > SWITCHES_A_SECOND * whole or busy < BUSY_SHARE * whole
            tries.append((disturbed, seconds))
            if not disturbed or whole > LONGEST_ROUND:
                break
        disturbed, seconds = min(tries)
        return {"seconds": seconds, "disturbed": disturbed}

    def exact(self, request: dict[str, Any]) -> dict[str, Any]:
        """Write the float64 results of this work to a file for everybody."""
        assert self.work is not None
        torch.save(self.work.reference(), request["path"])
        return {}

    def residual(self, request: dict[str, Any]) -> dict[str, Any]:
        """Distance of this contender's results from those in float64, and of the direct chain's beside it."""
        assert self.form is not None
        exact = torch.load(Path(request["path"]), mmap=True)
        found = residual(self.form.read(self.form.run()), exact)
        direct = None if self.form.direct is None else residual(self.form.direct(), exact)
        return {"residual": found, "direct_residual": direct}

    def limits(self, request: dict[str, Any]) -> dict[str, Any]:
        """What this machine can do at this number of threads."""
        rate = limits.multiply_add_rate(request["dtype"]) if request["flops"] else None
        return {"flops": rate, "bytes": limits.copy_rate(request["bytes"]) if request["bytes"] else None}

    def first_call(self, request: dict[str, Any]) -> dict[str, Any]:
        """Seconds from a loaded library to the first result, and those of the second call."""
        return observations.first_call(self.contender, self._work(request), self.threads)

    def memory(self, request: dict[str, Any]) -> dict[str, Any]:
        """Bytes above input, weights and output while the work is done again."""
        return observations.memory(self.contender, self._work(request), self.threads)

    def lengths(self, request: dict[str, Any]) -> dict[str, Any]:
        """Seconds over lengths never seen before, then over the same lengths again."""
        if self.work is None:
            self.work = self._work(request)
        return observations.lengths(self.contender, self.work, self.threads, request["lengths"])

    @staticmethod
    def _work(request: dict[str, Any]) -> Work:
        return Work(request["source"], request["dtype"], training=False)


def _seconds(form: Form, repetitions: int) -> float:
    run, turns = form.run, range(repetitions)
    begin = time.perf_counter()
    for _ in turns:
        run()
    return (time.perf_counter() - begin) / repetitions


def _interruptions() -> int:
    """How often the kernel took the core from this process or let it wait for a page of its own code."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_nivcsw + PAGE_WEIGHT * usage.ru_majflt


def bind_to_cores(cores: str) -> None:
    """Stay on these cores, such as "2,3": the same ones for every contender."""
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})


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
    bind_to_cores(sys.argv[3])
    main(sys.argv[1], int(sys.argv[2]))
