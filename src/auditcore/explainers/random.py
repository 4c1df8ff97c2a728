"""Control: a map that knows nothing of the model."""

from __future__ import annotations

from auditcore.contracts.explainers import Random
from auditcore.explainers.attribution import Attribution, Batch


def random(batch: Batch, contract: Random) -> Attribution:
    """Independent standard normal values, drawn again for every view; entries of other names draw other values.

    Copies with common noise draw their own values too. With those of the original all maps would be the same, and the
    control would look perfectly stable.
    """
    shape = tuple(batch.pixels.shape[1:])
    streams = batch.streams.apart
    return Attribution(streams.normal(shape, f"random/{contract.label}", device=batch.pixels.device))
