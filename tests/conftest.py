from __future__ import annotations

import pytest
import torch

import digits
from auditcore.models.classifier import Classifier


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    # more threads than cores make small tensors slower, and CI has two
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def digit_classifier() -> Classifier:
    """The trained digits network, ready to audit."""
    return Classifier(digits.trained(), preprocessing=digits.PREPROCESSING)
