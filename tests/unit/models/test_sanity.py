"""Logits that are no numbers are found out: at once on the CPU."""

from __future__ import annotations

import pytest
import torch

from auditcore.errors import ModelOutputInvalid
from auditcore.models.sanity import LogitGuard


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_logit_that_is_not_a_number_or_endless_is_refused(value: float) -> None:
    logits = torch.zeros(3, 5)
    logits[1, 2] = value
    guard = LogitGuard()
    with pytest.raises(ModelOutputInvalid, match="NaN or infinite"):
        guard.see(logits)


def test_masked_classes_pass_unless_all_of_an_image_are_masked() -> None:
    logits = torch.zeros(3, 5)
    logits[1, :4] = float("-inf")
    guard = LogitGuard()
    guard.see(logits)
    logits[1, 4] = float("-inf")
    with pytest.raises(ModelOutputInvalid, match="NaN or infinite"):
        guard.see(logits)


def test_numbers_pass() -> None:
    guard = LogitGuard()
    guard.see(torch.full((2, 3), 3e38))
    guard.require_finite()


def test_what_an_audit_left_behind_is_forgotten() -> None:
    guard = LogitGuard()
    guard._invalid = torch.tensor(data=True)
    guard.forget()
    guard.require_finite()
    guard._invalid = torch.tensor(data=True)
    with pytest.raises(ModelOutputInvalid):
        guard.require_finite()
    guard.require_finite()
