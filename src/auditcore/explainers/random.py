"""Control: a map that knows nothing of the model."""

from __future__ import annotations

from auditcore.contracts.explainers import Random
from auditcore.explainers.attribution import Attribution, Batch


def random(batch: Batch, contract: Random) -> Attribution:
    """Independent standard normal values, drawn anew for every view; entries of other names draw other values."""
    shape = tuple(batch.pixels.shape[1:])
    return Attribution(batch.streams.normal(shape, f"random/{contract.label}", device=batch.pixels.device))
