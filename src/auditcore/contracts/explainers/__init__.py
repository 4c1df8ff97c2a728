"""The contracts of all explainers, one file per group of methods; this list is their registry.

A contract holds the parameters of a method and answers questions about it: configuration, validation, report record,
price and OpenAPI text at once. `auditcore.explainers` has an implementation in a file of the same name.
"""

from __future__ import annotations

from typing import Annotated, cast, get_args

from pydantic import Field

from auditcore.contracts.explainers.ablation import Ablation
from auditcore.contracts.explainers.attention_rollout import AttentionRollout, GradientWeightedAttention
from auditcore.contracts.explainers.attn_lrp import AttnLrp
from auditcore.contracts.explainers.cam import GradCam, GuidedGradCam
from auditcore.contracts.explainers.captum import Captum
from auditcore.contracts.explainers.deep_lift import DeepLift
from auditcore.contracts.explainers.explainer import ExplainerContract
from auditcore.contracts.explainers.gradient import Gradient, InputXGradient, IntegratedGradients, Saliency
from auditcore.contracts.explainers.gradient_shap import GradientShap
from auditcore.contracts.explainers.information_bottleneck import Iba
from auditcore.contracts.explainers.kernel_shap import KernelShap
from auditcore.contracts.explainers.lrp import LrpEpsilonAlpha2Beta1Flat, LrpEpsilonGammaBox, LrpEpsilonPlusFlat
from auditcore.contracts.explainers.noise_tunnel import NoiseTunnel, SmoothGrad
from auditcore.contracts.explainers.occlusion import Occlusion
from auditcore.contracts.explainers.precomputed import Precomputed
from auditcore.contracts.explainers.random import Random
from auditcore.contracts.explainers.rectifiers import Deconvolution, GuidedBackpropagation
from auditcore.contracts.explainers.rise import Rise
from auditcore.contracts.explainers.served_explainer import ServedExplainer
from auditcore.contracts.explainers.team_function import CallableExplainer
from auditcore.contracts.explainers.zennit import Zennit

Explainer = Annotated[
    Gradient
    | Saliency
    | InputXGradient
    | IntegratedGradients
    | GradientShap
    | SmoothGrad
    | NoiseTunnel
    | DeepLift
    | GuidedBackpropagation
    | Deconvolution
    | GradCam
    | GuidedGradCam
    | Iba
    | LrpEpsilonPlusFlat
    | LrpEpsilonGammaBox
    | LrpEpsilonAlpha2Beta1Flat
    | AttnLrp
    | AttentionRollout
    | GradientWeightedAttention
    | Occlusion
    | Ablation
    | Rise
    | KernelShap
    | Random
    | Precomputed
    | Captum
    | Zennit
    | CallableExplainer
    | ServedExplainer,
    Field(discriminator="kind"),
]
"""Every explainer that a plan may name, in the order of the catalogue."""

EXPLAINER_CONTRACTS: tuple[type[ExplainerContract], ...] = get_args(get_args(Explainer)[0])
"""The classes of `Explainer`."""

CONTROL: Explainer = Random()
"""The control that checks run where a plan has none."""


def default_explainers() -> tuple[Explainer, ...]:
    """Every explainer that has default parameters for all of its fields, with these."""
    return tuple(cast("Explainer", kind.model_validate({})) for kind in EXPLAINER_CONTRACTS if has_defaults(kind))


def has_defaults(kind: type[ExplainerContract]) -> bool:
    """Whether an explainer runs without a parameter, unlike uploaded maps or code that a request names."""
    return not any(field.is_required() for field in kind.model_fields.values())
