"""The contracts of all training methods, one file per group; this list is their registry.

A contract holds the parameters of a method and answers what the rest of the program asks about it.
`auditcore.training.methods` has an implementation in a file of the same name.
"""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from auditcore.contracts.training.methods.augmix import AugMix
from auditcore.contracts.training.methods.cutmix import CutMix
from auditcore.contracts.training.methods.cutout import Cutout
from auditcore.contracts.training.methods.deletion_loss import DeletionLoss
from auditcore.contracts.training.methods.edda import Edda
from auditcore.contracts.training.methods.method import TrainingMethodContract
from auditcore.contracts.training.methods.mixup import Mixup
from auditcore.contracts.training.methods.pixmix import PixMix
from auditcore.contracts.training.methods.plain import Plain
from auditcore.contracts.training.methods.random_masks import RandomMasks
from auditcore.contracts.training.methods.recursive_mix import RecursiveMix
from auditcore.contracts.training.methods.saliency_mix import SaliencyMix
from auditcore.contracts.training.methods.token_mixup import TokenMixup

TrainingMethod = Annotated[
    Plain
    | Cutout
    | Mixup
    | CutMix
    | SaliencyMix
    | RecursiveMix
    | PixMix
    | AugMix
    | TokenMixup
    | Edda
    | DeletionLoss
    | RandomMasks,
    Field(discriminator="kind"),
]
"""Every training method that a plan may name, in the order of the catalog."""

TRAINING_METHODS: tuple[type[TrainingMethodContract], ...] = get_args(get_args(TrainingMethod)[0])
"""The classes of `TrainingMethod`."""
