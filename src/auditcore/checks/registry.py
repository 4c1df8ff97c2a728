"""Which code runs which check: one explicit table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from auditcore.checks import (
    agreement,
    complexity,
    deletion,
    edda,
    infidelity,
    insertion_deletion,
    localization,
    pixel_flipping,
    randomization,
    road,
    sensitivity,
    ssim_sweep,
    sweep,
)
from auditcore.checks.image_group import ImageGroup
from auditcore.contracts.checks import (
    AgreementCheck,
    CheckContract,
    ComplexityCheck,
    DeletionCheck,
    EddaCheck,
    InfidelityCheck,
    InsertionDeletionCheck,
    LocalizationCheck,
    PixelFlippingCheck,
    RandomizationCheck,
    RoadCheck,
    SensitivityCheck,
    SsimSweepCheck,
    SweepCheck,
)
from auditcore.contracts.shards import Measurement, SharedSample

Shared = Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Implementation:
    """How one check runs.

    Attributes:
        compute: (check, group, shared quantities) -> measurements of those explainers that run; the engine lists the
            others.
        measure_shared: (check, group) -> contributions to quantities of the whole audit, if it has any.
        reduce_shared: (check, rows by key of all images) -> those quantities.
    """

    compute: Callable[[Any, ImageGroup, Shared], list[Measurement]]
    measure_shared: Callable[[Any, ImageGroup], list[SharedSample]] | None = None
    reduce_shared: Callable[[Any, Mapping[str, Sequence[Sequence[float]]]], dict[str, tuple[float, ...]]] | None = None


CHECKS: dict[type[CheckContract], Implementation] = {
    SweepCheck: Implementation(sweep.compute, sweep.measure_shared, sweep.reduce_shared),
    SsimSweepCheck: Implementation(ssim_sweep.compute, ssim_sweep.measure_shared, ssim_sweep.reduce_shared),
    DeletionCheck: Implementation(deletion.compute),
    EddaCheck: Implementation(edda.compute),
    PixelFlippingCheck: Implementation(pixel_flipping.compute),
    InsertionDeletionCheck: Implementation(insertion_deletion.compute),
    RoadCheck: Implementation(road.compute),
    SensitivityCheck: Implementation(sensitivity.compute),
    InfidelityCheck: Implementation(infidelity.compute),
    LocalizationCheck: Implementation(localization.compute),
    RandomizationCheck: Implementation(randomization.compute),
    AgreementCheck: Implementation(agreement.compute),
    ComplexityCheck: Implementation(complexity.compute),
}
