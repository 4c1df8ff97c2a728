"""Audits the explanations of image classifiers: how stable they are, and how faithful to the model.

A plan names explainers and checks. Records of requests and plans check themselves, and need no torch:

    >>> from auditcore import AuditPlan, Brightness, GradCam, Gradient, Rotate, SweepCheck
    >>> plan = AuditPlan(
    ...     explainers=(Gradient(), GradCam()),
    ...     checks=(SweepCheck(augmentations=(Brightness(), Rotate(interval=(-20, 20))), levels=5),),
    ... )
    >>> [explainer.label for explainer in plan.explainers]
    ['gradient', 'grad_cam']
    >>> Rotate(interval=(10, 20))
    Traceback (most recent call last):
        ...
    pydantic_core._pydantic_core.ValidationError: 1 validation error for Rotate
    ...

`audit` runs a plan in this process. It is imported on first use, as everything that computes, and needs the extra
`auditcore[engine]`; the demo model needs `auditcore[demo]`:

    >>> import skimage
    >>> from pathlib import Path
    >>> from auditcore import AccessRules, AuditRequest, DemoModel, EddaCheck, ImageUri, ImageUris, audit
    >>> photos = Path(skimage.__file__).parent / "data"
    >>> request = AuditRequest(
    ...     model=DemoModel(),
    ...     images=ImageUris(uris=(ImageUri(uri=f"file://{photos}/coffee.png"),)),
    ...     plan=AuditPlan(explainers=(GradCam(),), checks=(EddaCheck(keep=(0.15,), color="mean"),)),
    ... )
    >>> report = audit(request, access=AccessRules(file_roots=(photos,)))
    >>> report.verdict
    'not_evaluated'
    >>> [image.target for image in report.images.items]  # ImageNet's class of a cup of espresso
    [967]
    >>> [result.mean > 0 for result in report.results if result.metric == "comprehensiveness"]
    [True]
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from auditcore.contracts.access import AccessRules, Limits
from auditcore.contracts.augmentations import (
    Brightness,
    Composition,
    Contrast,
    GaussianBlur,
    GaussianNoise,
    Gmic,
    HorizontalFlip,
    Hue,
    JpegQuality,
    Rotate,
    Saturation,
    Scale,
    Translate,
)
from auditcore.contracts.baseline_reference import BaselineReference
from auditcore.contracts.checks import (
    AgreementCheck,
    Change,
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
from auditcore.contracts.explainers import (
    Ablation,
    AttentionRollout,
    AttnLrp,
    CallableExplainer,
    Captum,
    Deconvolution,
    DeepLift,
    GradCam,
    Gradient,
    GradientShap,
    GradientWeightedAttention,
    GuidedBackpropagation,
    GuidedGradCam,
    Iba,
    InputXGradient,
    IntegratedGradients,
    KernelShap,
    LrpEpsilonAlpha2Beta1Flat,
    LrpEpsilonGammaBox,
    LrpEpsilonPlusFlat,
    NoiseTunnel,
    Occlusion,
    Precomputed,
    Random,
    Rise,
    Saliency,
    ServedExplainer,
    SmoothGrad,
    Zennit,
)
from auditcore.contracts.images import (
    Box,
    ImageBatchReference,
    ImageUri,
    ImageUris,
    InlineImage,
    InlineImages,
    TensorImages,
)
from auditcore.contracts.inspection import Inspection, InspectionRequest
from auditcore.contracts.masks import Mask
from auditcore.contracts.models import (
    DemoModel,
    FactoryModel,
    TimmModel,
    TorchvisionModel,
    Weights,
)
from auditcore.contracts.packaged_models import (
    HuggingFaceModel,
    MarModel,
    MlflowModel,
    OnnxModel,
    TorchExportModel,
    TorchScriptModel,
)
from auditcore.contracts.plan import AuditPlan, PresetPlan
from auditcore.contracts.policy import Condition
from auditcore.contracts.policy_document import PolicyDigest, PolicyDocument
from auditcore.contracts.preprocessing import Preprocessing, Size, Window
from auditcore.contracts.presets import resolve_plan
from auditcore.contracts.remedies.plan import RemedyPlan, RemedyRequest
from auditcore.contracts.remedies.report import RemedyReport
from auditcore.contracts.report import AuditReport, report_schema
from auditcore.contracts.request import AuditRequest, NamedModel
from auditcore.contracts.retraining.f_fidelity import FFidelityPlan, FFidelityReport, FFidelityRequest
from auditcore.contracts.retraining.idsds import IdsdsPlan, IdsdsReport, IdsdsRequest
from auditcore.contracts.retraining.roar import RoarPlan, RoarReport, RoarRequest
from auditcore.contracts.run_lengths import RunLengths
from auditcore.contracts.server_models import OpenInferenceModel, TorchServeModel
from auditcore.contracts.speed import Speed
from auditcore.contracts.stopping import Conclusive
from auditcore.contracts.studies.plan import StudyMethod, StudyPlan, StudyRequest
from auditcore.contracts.studies.report import StudyReport
from auditcore.contracts.synthetic import Digits, ObjectsOnScenes, Shortcut, ShortcutReliance
from auditcore.contracts.training.basic_augmentation import BasicAugmentation
from auditcore.contracts.training.methods.augmix import AugMix
from auditcore.contracts.training.methods.cutmix import CutMix
from auditcore.contracts.training.methods.cutout import Cutout
from auditcore.contracts.training.methods.deletion_loss import DeletionLoss
from auditcore.contracts.training.methods.edda import Edda
from auditcore.contracts.training.methods.mixup import Mixup
from auditcore.contracts.training.methods.pixmix import PixMix
from auditcore.contracts.training.methods.plain import Plain
from auditcore.contracts.training.methods.random_masks import RandomMasks, RandomPatches, RandomPixels
from auditcore.contracts.training.methods.recursive_mix import RecursiveMix
from auditcore.contracts.training.methods.saliency_mix import SaliencyMix
from auditcore.contracts.training.methods.token_mixup import TokenMixup
from auditcore.contracts.training.optimizers import Adam, AdamW, ConstantRate, CosineAnnealing, Sgd, StepDecay
from auditcore.contracts.training.plan import EpochAudit, TrainingPlan
from auditcore.contracts.training.report import TrainingReport
from auditcore.contracts.training.request import HeldOut, TrainingRequest
from auditcore.errors import AuditcoreError, InputError

if TYPE_CHECKING:
    from auditcore.auditing import audit, inspect_model
    from auditcore.images.encoded import EncodedImage
    from auditcore.models.loading import load_classifier
    from auditcore.remedies.local_remedy import Remedy, remedy
    from auditcore.report.gate import reevaluate
    from auditcore.report.serialize import report_bytes
    from auditcore.retraining.local_fine_tuned import f_fidelity, idsds
    from auditcore.retraining.local_roar import roar
    from auditcore.studies.local_study import study
    from auditcore.studies.study_reliability import study_reliability
    from auditcore.synthetic.dataset import SyntheticDataset
    from auditcore.synthetic.generation import generate_images
    from auditcore.synthetic.reliance import shortcut_reliance
    from auditcore.training.local_training import Trained, train

__all__ = [
    "Ablation",
    "AccessRules",
    "Adam",
    "AdamW",
    "AgreementCheck",
    "AttentionRollout",
    "AttnLrp",
    "AuditPlan",
    "AuditReport",
    "AuditRequest",
    "AuditcoreError",
    "AugMix",
    "BaselineReference",
    "BasicAugmentation",
    "Box",
    "Brightness",
    "CallableExplainer",
    "Captum",
    "Change",
    "ComplexityCheck",
    "Composition",
    "Conclusive",
    "Condition",
    "ConstantRate",
    "Contrast",
    "CosineAnnealing",
    "CutMix",
    "Cutout",
    "Deconvolution",
    "DeepLift",
    "DeletionCheck",
    "DeletionLoss",
    "DemoModel",
    "Digits",
    "Edda",
    "EddaCheck",
    "EncodedImage",
    "EpochAudit",
    "FFidelityPlan",
    "FFidelityReport",
    "FFidelityRequest",
    "FactoryModel",
    "GaussianBlur",
    "GaussianNoise",
    "Gmic",
    "GradCam",
    "Gradient",
    "GradientShap",
    "GradientWeightedAttention",
    "GuidedBackpropagation",
    "GuidedGradCam",
    "HeldOut",
    "HorizontalFlip",
    "Hue",
    "HuggingFaceModel",
    "Iba",
    "IdsdsPlan",
    "IdsdsReport",
    "IdsdsRequest",
    "ImageBatchReference",
    "ImageUri",
    "ImageUris",
    "InfidelityCheck",
    "InlineImage",
    "InlineImages",
    "InputError",
    "InputXGradient",
    "InsertionDeletionCheck",
    "Inspection",
    "InspectionRequest",
    "IntegratedGradients",
    "JpegQuality",
    "KernelShap",
    "Limits",
    "LocalizationCheck",
    "LrpEpsilonAlpha2Beta1Flat",
    "LrpEpsilonGammaBox",
    "LrpEpsilonPlusFlat",
    "MarModel",
    "Mask",
    "Mixup",
    "MlflowModel",
    "NamedModel",
    "NoiseTunnel",
    "ObjectsOnScenes",
    "Occlusion",
    "OnnxModel",
    "OpenInferenceModel",
    "PixMix",
    "PixelFlippingCheck",
    "Plain",
    "PolicyDigest",
    "PolicyDocument",
    "Precomputed",
    "Preprocessing",
    "PresetPlan",
    "Random",
    "RandomMasks",
    "RandomPatches",
    "RandomPixels",
    "RandomizationCheck",
    "RecursiveMix",
    "Remedy",
    "RemedyPlan",
    "RemedyReport",
    "RemedyRequest",
    "Rise",
    "RoadCheck",
    "RoarPlan",
    "RoarReport",
    "RoarRequest",
    "Rotate",
    "RunLengths",
    "Saliency",
    "SaliencyMix",
    "Saturation",
    "Scale",
    "SensitivityCheck",
    "ServedExplainer",
    "Sgd",
    "Shortcut",
    "ShortcutReliance",
    "Size",
    "SmoothGrad",
    "Speed",
    "SsimSweepCheck",
    "StepDecay",
    "StudyMethod",
    "StudyPlan",
    "StudyReport",
    "StudyRequest",
    "SweepCheck",
    "SyntheticDataset",
    "TensorImages",
    "TimmModel",
    "TokenMixup",
    "TorchExportModel",
    "TorchScriptModel",
    "TorchServeModel",
    "TorchvisionModel",
    "Trained",
    "TrainingPlan",
    "TrainingReport",
    "TrainingRequest",
    "Translate",
    "Weights",
    "Window",
    "Zennit",
    "audit",
    "f_fidelity",
    "generate_images",
    "idsds",
    "inspect_model",
    "load_classifier",
    "reevaluate",
    "remedy",
    "report_bytes",
    "report_schema",
    "resolve_plan",
    "roar",
    "shortcut_reliance",
    "study",
    "study_reliability",
    "train",
]

_ON_FIRST_USE = {
    "EncodedImage": "auditcore.images.encoded",
    "SyntheticDataset": "auditcore.synthetic.dataset",
    "audit": "auditcore.auditing",
    "generate_images": "auditcore.synthetic.generation",
    "inspect_model": "auditcore.auditing",
    "load_classifier": "auditcore.models.loading",
    "Remedy": "auditcore.remedies.local_remedy",
    "reevaluate": "auditcore.report.gate",
    "remedy": "auditcore.remedies.local_remedy",
    "report_bytes": "auditcore.report.serialize",
    "Trained": "auditcore.training.local_training",
    "f_fidelity": "auditcore.retraining.local_fine_tuned",
    "idsds": "auditcore.retraining.local_fine_tuned",
    "roar": "auditcore.retraining.local_roar",
    "study": "auditcore.studies.local_study",
    "study_reliability": "auditcore.studies.study_reliability",
    "train": "auditcore.training.local_training",
    "shortcut_reliance": "auditcore.synthetic.reliance",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attribute can be anything
    if name not in _ON_FIRST_USE:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(_ON_FIRST_USE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
