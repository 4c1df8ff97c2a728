from __future__ import annotations

import pytest
import torch

import digits
from auditcore.models.classifier import Classifier


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # small tensors gain nothing from a second thread, and threads of busy processes wait for each other
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digit_classifier() -> Classifier:
    """The trained digits network, ready to audit."""
    return Classifier(digits.trained(), preprocessing=digits.PREPROCESSING)
