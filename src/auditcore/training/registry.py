"""Which class carries out which training method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from auditcore.contracts.training.methods import TrainingMethod
from auditcore.contracts.training.methods.deletion_loss import DeletionLoss
from auditcore.contracts.training.methods.edda import Edda
from auditcore.contracts.training.methods.method import TrainingMethodContract
from auditcore.contracts.training.methods.mixup import Mixup
from auditcore.contracts.training.methods.plain import Plain
from auditcore.contracts.training.methods.random_masks import RandomMasks
from auditcore.contracts.training.trainable_models import require_scores
from auditcore.training.method import Method, MethodSetting
from auditcore.training.methods.deletion_loss import DeletionLossTraining
from auditcore.training.methods.edda import EddaTraining
from auditcore.training.methods.mixup import MixupTraining
from auditcore.training.methods.plain import PlainTraining
from auditcore.training.methods.random_masks import RandomMasksTraining

METHODS: Mapping[type[TrainingMethodContract], Callable[[Any, MethodSetting], Method]] = MappingProxyType(
    {
        Plain: lambda _contract, _setting: PlainTraining(),
        Mixup: lambda contract, _setting: MixupTraining(contract),
        Edda: EddaTraining,
        DeletionLoss: lambda contract, setting: DeletionLossTraining(
            contract, setting, method_of(contract.mix, setting)
        ),
        RandomMasks: RandomMasksTraining,
    }
)
"""Contract -> (contract, setting) -> the method. A test compares the keys with the union `TrainingMethod`."""


def method_of(contract: TrainingMethod, setting: MethodSetting) -> Method:
    """The method that a plan names.

    Raises:
        ModelNotTrainable: The method is not made for models of this kind.
    """
    require_scores(contract, setting.network.scores)
    return METHODS[type(contract)](contract, setting)
