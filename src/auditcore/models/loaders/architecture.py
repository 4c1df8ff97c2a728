"""What a loader returns: a network and how to feed it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from auditcore.contracts.models import Scores
from auditcore.contracts.preprocessing import Preprocessing


@dataclass(frozen=True)
class LoadedModel:
    """A network with its weights.

    Attributes:
        module: Normalized input (N,3,H,W) to logits (N,classes).
        preprocessing: How a photo becomes its input.
        scores: How its logits become probabilities.
        trained: False for `random:` weights.
        notes: What loading has found that a reader of the report should know.
    """

    module: nn.Module
    preprocessing: Preprocessing
    scores: Scores
    trained: bool
    notes: tuple[str, ...] = ()
