"""Maps that were uploaded instead of computed."""

from __future__ import annotations

from auditcore.contracts.capabilities import NO_COPIES
from auditcore.contracts.explainers import Precomputed
from auditcore.errors import NotApplicable
from auditcore.explainers.attribution import Attribution, Batch


def precomputed(batch: Batch, contract: Precomputed) -> Attribution:
    """The uploaded maps of these images; zeros for an image without one, which the engine reports as undefined.

    Raises:
        NotApplicable: There are no uploaded maps of these images, because they are changed copies.
    """
    maps = batch.uploaded.get(contract.maps)
    if maps is None:
        raise NotApplicable(NO_COPIES)
    return Attribution(maps)
