"""Which class carries out which training method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from auditcore.contracts.training.methods import TrainingMethod
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
from auditcore.contracts.training.trainable_models import require_scores
from auditcore.training.method import Method, MethodSetting
from auditcore.training.methods.augmix import AugMixTraining
from auditcore.training.methods.cutmix import CutMixTraining
from auditcore.training.methods.cutout import CutoutTraining
from auditcore.training.methods.deletion_loss import DeletionLossTraining
from auditcore.training.methods.edda import EddaTraining
from auditcore.training.methods.mixup import MixupTraining
from auditcore.training.methods.pixmix import PixMixTraining
from auditcore.training.methods.plain import PlainTraining
from auditcore.training.methods.random_masks import RandomMasksTraining
from auditcore.training.methods.recursive_mix import RecursiveMixTraining
from auditcore.training.methods.saliency_mix import SaliencyMixTraining
from auditcore.training.methods.token_mixup import TokenMixupTraining

METHODS: Mapping[type[TrainingMethodContract], Callable[[Any, MethodSetting], Method]] = MappingProxyType(
    {
        Plain: lambda _contract, _setting: PlainTraining(),
        Cutout: lambda contract, _setting: CutoutTraining(contract),
        Mixup: lambda contract, _setting: MixupTraining(contract),
        CutMix: lambda contract, _setting: CutMixTraining(contract),
        SaliencyMix: lambda contract, _setting: SaliencyMixTraining(contract),
        RecursiveMix: RecursiveMixTraining,
        PixMix: PixMixTraining,
        AugMix: AugMixTraining,
        TokenMixup: TokenMixupTraining,
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
