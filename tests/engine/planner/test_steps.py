"""Steps are what they are by every bit of their numbers, and say what they take."""

from __future__ import annotations

import pytest

from outstride.engine.planner.steps import KINDS, Step, operand_forms, steps_name
from tests.engine.planner.chains import CHAINS, CONTIGUOUS, IN_VECTORS, STEPS


def test_every_kind_is_tried() -> None:
    assert {step.kind for step in (*STEPS, *IN_VECTORS, *CONTIGUOUS)} == set(KINDS)


def test_steps_of_other_bits_are_other_steps() -> None:
    assert Step("add", (0.0,)) != Step("add", (-0.0,))
    assert Step("add", (2,)) == Step("add", (2.0,))
    assert hash(Step("add", (2,))) == hash(Step("add", (2.0,)))


def test_names_tell_steps_apart() -> None:
    chains = [*((step,) for step in STEPS), *CHAINS, (STEPS[0], STEPS[3]), (STEPS[3], STEPS[0])]
    assert len({steps_name(chain) for chain in chains}) == len(set(chains))
    assert steps_name(()) == ""
    assert steps_name((Step("relu"), Step("hardtanh", (0, 6)))).startswith("_relu_hardtanh_")


def test_steps_of_vectors_alone_are_others_by_the_same_code() -> None:
    assert Step("silu", filled=True) != Step("silu")
    assert steps_name((Step("silu", filled=True),)) == steps_name((Step("silu"),))


def test_the_operands_of_a_chain_come_in_its_order() -> None:
    assert operand_forms(CHAINS[1]) == ("channel",) * 4 + ("tensor",)
    assert operand_forms([Step("batch_norm", (1e-5,), ("channel", "channel", None, "channel"))]) == (
        "channel",
    ) * 3  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("erf",), r"'kind' must be that of a step: got 'erf'; legal: batch_norm, relu, .*divide"),
        (("relu", (1.0,)), r"a step 'relu' does not take numbers=\(1.0,\), operands=\(\); legal: no numbers"),
        (("leaky_relu", (None,)), r"does not take numbers=\(None,\).*legal: 1 number, never NaN"),
        (("hardtanh", (None, None)), r"does not take numbers=\(None, None\).*legal: 2 numbers"),
        (("hardtanh", (0.0, float("nan"))), "legal: 2 numbers, never NaN"),
        (("elu", (1.0, 1.0)), "legal: 3 numbers"),
        (("elu", (1.0, 1.0, -1.0)), "legal: 3 numbers, the last above zero"),
        (("prelu", (), ("tensor",)), r"operands=\('tensor',\); legal: no numbers.*operands \(channel\)"),
        (("add",), "legal: one number, or one operand, 'channel' or 'tensor'"),
        (("add", (1.0,), ("tensor",)), "legal: one number, or one operand"),
        (("batch_norm", (1e-5,), ("channel", None, None, None)), "channel, channel, channel/None"),
    ],
)
def test_what_a_step_does_not_take_is_refused(arguments: tuple[object, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Step(*arguments)  # type: ignore[arg-type]
