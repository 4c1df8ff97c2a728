"""When answers to the probe are those of another model."""

from __future__ import annotations

import pytest

from auditcore.contracts.probe import CHANGED, ProbeAnswers


def answers(*probabilities: float, unsteadiness: float = 0.0) -> ProbeAnswers:
    return ProbeAnswers(probabilities=probabilities, unsteadiness=unsteadiness)


@pytest.mark.parametrize(
    ("one", "other", "changed"),
    [
        (answers(0.2, 0.8), answers(0.2, 0.8), False),
        (answers(0.2, 0.8), answers(0.2 + 0.9 * CHANGED, 0.8), False),
        (answers(0.2, 0.8), answers(0.2, 0.8 - 1.1 * CHANGED), True),
        # what is within its unsteadiness tells nothing
        (answers(0.2, 0.8, unsteadiness=0.001), answers(0.209, 0.791), False),
        (answers(0.2, 0.8, unsteadiness=0.001), answers(0.211, 0.789), True),
        # one class fewer
        (answers(0.2, 0.8), answers(0.2), True),
    ],
)
def test_another_model_is_distinguished_from_rounding(one: ProbeAnswers, other: ProbeAnswers, *, changed: bool) -> None:
    assert one.is_of_another_model(other) is changed
    assert other.is_of_another_model(one) is changed
