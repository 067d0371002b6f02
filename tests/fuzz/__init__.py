"""A differential fuzzer: drawn layers on drawn operands, judged by float64 torch and by the laws.

``python -m tests.fuzz`` plays until it is stopped; ``--case`` plays one case again, from the line that a
failure prints, and ``--graphs`` plays whole models (`tests/fuzz/graphs`). Every test run plays a new seed for
a while (`tests/laws/test_fuzz.py`).
"""
