"""Every argument has a place of its own."""

from __future__ import annotations

from outstride.engine.codegen.arguments import (
    ARGUMENTS,
    DOT_ARGUMENTS,
    FINGERPRINT_ARGUMENTS,
    GRADIENT_ARGUMENTS,
    GROUP_FIELDS,
    NONFINITE_ARGUMENTS,
    STEPS_ARGUMENTS,
)


def test_arguments_have_one_place_each() -> None:
    arguments = (
        ARGUMENTS,
        DOT_ARGUMENTS,
        GRADIENT_ARGUMENTS,
        FINGERPRINT_ARGUMENTS,
        NONFINITE_ARGUMENTS,
        STEPS_ARGUMENTS,
    )
    for names in (*arguments, GROUP_FIELDS):
        assert len(set(names)) == len(names)
