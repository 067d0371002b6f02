"""Drawn models of a few operators, compiled and judged by what ``accelerate`` makes of them, bit for bit.

``python -m tests.fuzz --graphs`` plays them; ``--case`` plays one again, from the line a failure printed.
"""
