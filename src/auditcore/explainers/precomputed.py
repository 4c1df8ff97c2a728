"""Maps that were uploaded instead of computed."""

from __future__ import annotations

from auditcore.contracts.capabilities import NO_COPIES
from auditcore.contracts.explainers import Precomputed
from auditcore.errors import NotApplicable
from auditcore.explainers.attribution import Attribution, Batch


def precomputed(batch: Batch, contract: Precomputed) -> Attribution:
    """The uploaded maps of these images; of an image without one, zeros, which the engine reports as undefined.

    Raises:
        NotApplicable: Nobody has uploaded maps of these images, such as of changed copies.
    """
    maps = batch.uploaded.get(contract.maps)
    if maps is None:
        raise NotApplicable(NO_COPIES)
    return Attribution(maps)
