"""Classifiers with the weights of a training."""

from __future__ import annotations

from collections.abc import Mapping

import safetensors.torch
from torch import Tensor, nn

from auditcore.contracts.contract import Sha256
from auditcore.models.classifier import Classifier
from auditcore.models.state_digests import state_digest

NO_DIGEST: Sha256 = f"sha256:{0:064d}"
"""Of weights that still change: hashing those of a ResNet-50 in every step would take 0.1 s."""


def with_weights(start: Classifier, weights: bytes) -> Classifier:
    """A copy of the model that a training started from, with the weights that it ended with.

    Nothing is probed again; passes count in the same ledger.

    Args:
        start: The model it started from.
        weights: The file of safetensors of the training.
    """
    state = safetensors.torch.load(weights)
    trained = start.altered(lambda module: load_state(module, state), digest=NO_DIGEST)
    trained.digest = state_digest(trained.module)
    return trained


def load_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a network other weights, and switch it to evaluation."""
    module.load_state_dict(state)
    module.eval()
