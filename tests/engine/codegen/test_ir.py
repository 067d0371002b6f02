"""The writer: integers fold, loops run."""

from __future__ import annotations

from array import array

from outstride.engine import runtime
from outstride.engine.codegen.ir import I64, Function, module


def test_integers_fold_as_python_does() -> None:
    f = Function("f", [("n", I64)])
    (n,) = f.parameters
    assert (f.add(2, 3), f.sub(2, 3), f.mul(2, 3), f.div(7, 2), f.rem(7, 2)) == (5, -1, 6, 3, 1)
    assert (f.minimum(2, 3), f.maximum(2, 3), f.ceil_div(7, 2)) == (2, 3, 4)
    assert all(x is n for x in (f.add(n, 0), f.add(0, n), f.sub(n, 0), f.mul(n, 1), f.mul(1, n), f.div(n, 1)))
    assert (f.mul(n, 0), f.mul(0, n), f.rem(n, 1)) == (0, 0, 0)
    assert f.text().count("%v") == 0, "what folds leaves no instruction"


def test_loops_run_as_range_does() -> None:
    """Written, compiled and run: the indices that a loop goes through."""
    f = Function("run", [("block", "ptr")])
    (block,) = f.parameters
    start, stop, step = (f.load_i64(block, i) for i in range(3))
    with f.loop(start, stop, step) as i, f.loop(0, 2) as j, f.when(f.compare("eq", j, 1)):
        count = f.load_i64(block, 3)
        f.store(i, f.at(block, f.add(count, 4), I64), 8)
        f.store(f.i64(f.add(count, 1)), f.at(block, 3, I64), 8)
    kernel = runtime.kernel("test_loops", lambda: module([f], "loops"), runtime.machine().instruction_set)
    for bounds in ((0, 5, 1), (2, 11, 3), (4, 4, 1), (7, 3, 2), (-3, 3, 2)):
        values = array("q", [*bounds, 0, *[0] * 20])
        kernel.alone(values.buffer_info()[0])
        assert list(values[4 : 4 + values[3]]) == list(range(*bounds))
