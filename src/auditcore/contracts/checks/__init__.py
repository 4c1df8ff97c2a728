"""One class per check: what is measured, with which parameters, at which price, and how a report shows it.

A new check is a module of this package with a class of its own, named here in `Check`; its implementation is named in
`auditcore.checks.registry`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, get_args

from pydantic import Field

from auditcore.contracts.checks.agreement import AgreementCheck
from auditcore.contracts.checks.check import (
    CheckContract,
    CheckNeed,
    CurveLine,
    LineStyle,
    Noise,
    Notice,
    Pool,
    Question,
    Reduction,
)
from auditcore.contracts.checks.check_case import CheckCase
from auditcore.contracts.checks.complexity import ComplexityCheck
from auditcore.contracts.checks.deletion import DeletionCheck
from auditcore.contracts.checks.edda import EddaCheck
from auditcore.contracts.checks.infidelity import InfidelityCheck
from auditcore.contracts.checks.insertion_deletion import Game, InsertionDeletionCheck, accuracy_metric
from auditcore.contracts.checks.localization import LocalizationCheck
from auditcore.contracts.checks.pixel_flipping import PixelFlippingCheck
from auditcore.contracts.checks.randomization import RandomizationCheck
from auditcore.contracts.checks.ranking import RankingCheck, StepCurveCheck
from auditcore.contracts.checks.road import RoadCheck
from auditcore.contracts.checks.sensitivity import SensitivityCheck
from auditcore.contracts.checks.ssim_sweep import (
    ALL_CHANGES,
    ALL_VALID,
    Change,
    ChangedValue,
    SsimSweepCheck,
    change_variants,
)
from auditcore.contracts.checks.sweep import (
    AUGMENTATION_MEAN,
    SweepCheck,
    all_augmentations,
    interval_key,
    tried_intervals,
)

__all__ = [
    "ALL_CHANGES",
    "ALL_VALID",
    "AUGMENTATION_MEAN",
    "CHECK_CONTRACTS",
    "CHECK_OF_KIND",
    "AgreementCheck",
    "Change",
    "ChangedValue",
    "Check",
    "CheckCase",
    "CheckContract",
    "CheckNeed",
    "ComplexityCheck",
    "CurveLine",
    "DeletionCheck",
    "EddaCheck",
    "Game",
    "InfidelityCheck",
    "InsertionDeletionCheck",
    "LineStyle",
    "LocalizationCheck",
    "Noise",
    "Notice",
    "PixelFlippingCheck",
    "Pool",
    "Question",
    "RandomizationCheck",
    "RankingCheck",
    "Reduction",
    "RoadCheck",
    "SensitivityCheck",
    "SsimSweepCheck",
    "StepCurveCheck",
    "SweepCheck",
    "accuracy_metric",
    "all_augmentations",
    "change_variants",
    "interval_key",
    "tried_intervals",
]

Check = Annotated[
    SweepCheck
    | SsimSweepCheck
    | DeletionCheck
    | EddaCheck
    | PixelFlippingCheck
    | InsertionDeletionCheck
    | RoadCheck
    | SensitivityCheck
    | InfidelityCheck
    | LocalizationCheck
    | RandomizationCheck
    | AgreementCheck
    | ComplexityCheck,
    Field(discriminator="kind"),
]

"""Every check that a plan may name, in the order of the catalogue."""

CHECK_CONTRACTS: tuple[type[CheckContract], ...] = get_args(get_args(Check)[0])
"""The classes of `Check`."""

CHECK_OF_KIND: Mapping[str, type[CheckContract]] = MappingProxyType(
    {contract.model_fields["kind"].default: contract for contract in CHECK_CONTRACTS}
)
"""Kind -> contract of every check."""
