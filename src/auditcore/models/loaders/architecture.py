"""What a loader returns: a network and how to feed it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from auditcore.contracts.model_signature import ModelSignature
from auditcore.contracts.models import Scores
from auditcore.contracts.outputs import Outputs, Select
from auditcore.contracts.preprocessing import Preprocessing


@dataclass(frozen=True)
class LoadedModel:
    """A network with its weights.

    Attributes:
        module: Normalized input (N,C,H,W) to class scores (N,classes), or to several tensors.
        preprocessing: How a photo becomes its input.
        scores: How its logits become probabilities.
        trained: False for `random:` weights.
        outputs: What the network returns.
        select: Entry of what it returns that holds the class scores; the only tensor, or `logits`, if None.
        notes: What a reader of the report should know of how it was loaded.
        signature: The signature of its files that was verified; None without one.
        class_names: What it calls its classes, in their order; empty if it does not say.
    """

    module: nn.Module
    preprocessing: Preprocessing
    scores: Scores
    trained: bool
    outputs: Outputs = "logits"
    select: Select | None = None
    notes: tuple[str, ...] = ()
    signature: ModelSignature | None = None
    class_names: tuple[str, ...] = ()
