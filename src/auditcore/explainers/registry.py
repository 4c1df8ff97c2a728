"""Which function computes which explainer, and on which models it is not right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from auditcore.contracts.capabilities import explainer_incompatibility
from auditcore.contracts.explainers import (
    Ablation,
    AttentionRollout,
    AttnLrp,
    CallableExplainer,
    Captum,
    Deconvolution,
    DeepLift,
    Explainer,
    ExplainerContract,
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
from auditcore.contracts.explainers.foreign import LibraryExplainer
from auditcore.contracts.speed import Speed
from auditcore.devices.arithmetic import arithmetic
from auditcore.devices.transfer import current
from auditcore.errors import ShapeError
from auditcore.explainers import (
    ablation,
    attention_rollout,
    attn_lrp,
    cam,
    captum,
    deep_lift,
    gradient,
    gradient_shap,
    information_bottleneck,
    kernel_shap,
    lrp,
    noise_tunnel,
    occlusion,
    precomputed,
    random,
    rectifiers,
    rise,
    served_explainer,
    team_function,
    zennit,
)
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.foreign import beside_own
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams


def _always_applicable(_classifier: Classifier, _contract: ExplainerContract) -> None:
    """Every classifier that offers what the contract needs is suitable."""


@dataclass(frozen=True)
class Method:
    """Implementation of one explainer.

    Attributes:
        attribute: Explains a batch according to its contract.
        incompatibility: Why the method is not right on a model, or None.
        measure_shared: (batch, contract, half of each image) -> what images contribute to a quantity of the whole
            audit, for contracts with `needs_measure_wave`: a row per image, or per several. Every other image belongs
            to half 1.
        merge_shared: (contract, rows) -> few rows with the same meaning, up to rounding.
        reduce_shared: (contract, rows of all images) -> that quantity, handed to `attribute` as
            `batch.shared[contract.shared_key]`.
        why_no_map: (contract, quantity of the whole audit or None) -> why images have no map although the method runs
            on the model, or None.
        layer: The layer that it works on, which the report names. Methods that share the layer gradient
            (`shared_passes` of the contract) get the features and the gradient of this layer.
        prepare: Builds what it needs of a model once, where that takes long; without it the first map would.
    """

    attribute: Callable[[Batch, Any], Attribution]
    incompatibility: Callable[[Classifier, Any], str | None] = _always_applicable
    measure_shared: Callable[[Batch, Any, Sequence[int]], Float[Tensor, "row value"]] | None = None
    merge_shared: Callable[[Any, Sequence[Sequence[float]]], Sequence[Sequence[float]]] | None = None
    reduce_shared: Callable[[Any, Sequence[Sequence[float]]], tuple[float, ...]] | None = None
    why_no_map: Callable[[Any, Sequence[float] | None], str | None] | None = None
    layer: Callable[[Classifier, Any], str | None] | None = None
    prepare: Callable[[Classifier, Any], object] | None = None


def _noise_tunnel(batch: Batch, contract: NoiseTunnel) -> Attribution:
    return noise_tunnel.noise_tunnel(batch, contract, EXPLAINERS[type(contract.method)].attribute)


def _noise_tunnel_incompatibility(classifier: Classifier, contract: NoiseTunnel) -> str | None:
    """The incompatibility of the inner method."""
    return EXPLAINERS[type(contract.method)].incompatibility(classifier, contract.method)


def _noise_tunnel_layer(classifier: Classifier, contract: NoiseTunnel) -> str | None:
    """The layer of the inner method."""
    return _layer(classifier, contract.method)


def _layer(classifier: Classifier, contract: ExplainerContract) -> str | None:
    """The layer that a method works on; None if it works on none."""
    layer = EXPLAINERS[type(contract)].layer
    return None if layer is None else layer(classifier, contract)


def _captum(batch: Batch, contract: Captum) -> Attribution:
    return beside_own(batch, contract, captum.captum_method, _own(batch.classifier, contract))


def _zennit(batch: Batch, contract: Zennit) -> Attribution:
    return beside_own(batch, contract, zennit.zennit_composite, _own(batch.classifier, contract))


def _own(classifier: Classifier, contract: LibraryExplainer) -> Callable[[Batch, Any], Attribution] | None:
    """Our own method that corresponds to a library's; None if there is none or it does not apply to the model."""
    own = contract.counterpart
    if own is None or EXPLAINERS[type(own)].incompatibility(classifier, own) is not None:
        return None
    return EXPLAINERS[type(own)].attribute


EXPLAINERS: dict[type[ExplainerContract], Method] = {
    Gradient: Method(gradient.gradient),
    Saliency: Method(gradient.saliency),
    InputXGradient: Method(gradient.input_x_gradient),
    IntegratedGradients: Method(gradient.integrated_gradients),
    GradientShap: Method(gradient_shap.gradient_shap),
    SmoothGrad: Method(noise_tunnel.smoothgrad),
    NoiseTunnel: Method(_noise_tunnel, _noise_tunnel_incompatibility, layer=_noise_tunnel_layer),
    DeepLift: Method(deep_lift.deep_lift, deep_lift.incompatibility),
    GuidedBackpropagation: Method(rectifiers.guided_backpropagation, rectifiers.incompatibility),
    Deconvolution: Method(rectifiers.deconvolution, rectifiers.incompatibility),
    GradCam: Method(cam.grad_cam, cam.incompatibility, layer=cam.layer_name),
    GuidedGradCam: Method(cam.guided_grad_cam, cam.guided_incompatibility, layer=cam.layer_name),
    LrpEpsilonPlusFlat: Method(lrp.lrp_epsilon_plus_flat, lrp.incompatibility, prepare=lrp.model_with_rules),
    LrpEpsilonGammaBox: Method(lrp.lrp_epsilon_gamma_box, lrp.incompatibility, prepare=lrp.model_with_rules),
    LrpEpsilonAlpha2Beta1Flat: Method(
        lrp.lrp_epsilon_alpha2_beta1_flat, lrp.incompatibility, prepare=lrp.model_with_rules
    ),
    AttnLrp: Method(attn_lrp.attn_lrp, attn_lrp.incompatibility),
    AttentionRollout: Method(attention_rollout.attention_rollout, attention_rollout.incompatibility),
    GradientWeightedAttention: Method(attention_rollout.gradient_weighted_attention, attention_rollout.incompatibility),
    Iba: Method(
        information_bottleneck.iba,
        information_bottleneck.incompatibility,
        information_bottleneck.measure_statistics,
        information_bottleneck.merge_statistics,
        information_bottleneck.reduce_statistics,
        information_bottleneck.why_no_map,
        layer=information_bottleneck.layer_name,
    ),
    Occlusion: Method(occlusion.occlusion, occlusion.incompatibility),
    Ablation: Method(ablation.ablation, ablation.incompatibility),
    Rise: Method(rise.rise, rise.incompatibility),
    KernelShap: Method(kernel_shap.kernel_shap),
    Random: Method(random.random),
    Precomputed: Method(precomputed.precomputed),
    Captum: Method(_captum, captum.incompatibility, layer=captum.layer_name),
    Zennit: Method(_zennit, zennit.incompatibility),
    ServedExplainer: Method(served_explainer.served_maps, served_explainer.incompatibility),
    CallableExplainer: Method(team_function.team_function, team_function.incompatibility),
}


def applicability(classifier: Classifier, contract: Explainer) -> str | None:
    """Why this method is not right on this model, or None if it is.

    The first question about rectifiers or relevance brings the model into canonical form; later ones are cheap.
    """
    return explainer_incompatibility(contract, classifier.capabilities) or EXPLAINERS[type(contract)].incompatibility(
        classifier, contract
    )


def prepare(classifier: Classifier, contracts: Sequence[Explainer]) -> None:
    """Build what these methods need of a model, unless it is built or they cannot run on it."""
    able = [contract for contract in contracts if applicability(classifier, contract) is None]
    for contract in able:
        method = EXPLAINERS[type(contract)]
        if method.prepare is not None:
            method.prepare(classifier, contract)
    layers = layers_read(classifier, able)
    if layers:
        classifier.readable(layers)


def layers_read(classifier: Classifier, contracts: Sequence[Explainer]) -> tuple[str, ...]:
    """Layers whose features and gradients these methods read, each once; they share one pass."""
    reading = [contract for contract in contracts if "layer_gradient" in contract.shared_passes]
    return tuple(dict.fromkeys(layer for layer in (_layer(classifier, one) for one in reading) if layer is not None))


def layers_named(classifier: Classifier, contracts: Sequence[Explainer]) -> dict[str, str]:
    """Name of each method that works on a layer -> path of the layer; methods must be applicable."""
    found = ((contract.label, _layer(classifier, contract)) for contract in contracts)
    return {label: layer for label, layer in found if layer is not None}


def why_no_map(contract: Explainer, shared: Sequence[float] | None) -> str | None:
    """Why no image of an audit has a map of a method that runs on the model, or None.

    Args:
        contract: The method.
        shared: Its quantity of the whole audit; None if it has none.
    """
    why = EXPLAINERS[type(contract)].why_no_map
    return None if why is None else why(contract, shared)


def explain(
    classifier: Classifier,
    contract: Explainer,
    pixels: Float[Tensor, "image channel height width"],
    targets: Int[Tensor, " image"],
    streams: Streams,
    *,
    micro_batch: int = 32,
    shared: Mapping[str, tuple[float, ...]] | None = None,
    diagnostics: bool = True,
) -> Attribution:
    """Attribute each image's target logit to its input.

    Maps are signed and belong to the normalized space. They do not depend on how images are batched, up to rounding.

    Args:
        classifier: The model under audit.
        contract: Which method, with which parameters.
        pixels: Images in pixel space [0,1], on the classifier's device.
        targets: Class index to explain, for each image.
        streams: Random streams of these images or changed copies, in the same order.
        micro_batch: Images that pass through the model at once, at most.
        shared: Quantities of the whole audit, for methods that measure some; see `Method.reduce_shared`.
        diagnostics: Whether they will be read; if not, passes that only they need are left out.

    Returns:
        Maps and diagnostics.

    Raises:
        NotApplicable: The method is not right on this model; `applicability` says so in advance.
        ShapeError: Targets or streams do not match the images in number.
        ModelOutputInvalid: The model returned NaN or infinite logits.
    """
    if len(targets) != len(pixels) or len(streams) != len(pixels):
        raise ShapeError(
            expected=f"{len(pixels)} targets and streams, one per image",
            actual=f"{len(targets)} targets and {len(streams)} streams",
        )
    batch = Batch(
        classifier, pixels, targets, streams, micro_batch=micro_batch, shared=shared or {}, diagnostics=diagnostics
    )
    with arithmetic(Speed(), classifier.device), current(classifier.device):
        classifier.guard.forget()
        found = EXPLAINERS[type(contract)].attribute(batch, contract)
        classifier.guard.require_finite()
    return found


def explain_together(batch: Batch, contracts: Sequence[Explainer]) -> dict[Explainer, Attribution]:
    """Attribute each image's target logit by several methods; each pass is made once.

    Methods share the results that their contracts name in `shared_passes`. Logits that are read afterwards
    (`shared_pass.image_logits`) come from the same pass.

    Args:
        batch: The images, with the results of passes that are known.
        contracts: Which methods; each must be applicable.

    Returns:
        The attributions of each method, in the order given.
    """
    methods = {contract: EXPLAINERS[type(contract)] for contract in contracts}
    gradient_wanted = any("input_gradient" in contract.shared_passes for contract in contracts)
    layers = layers_read(batch.classifier, contracts)
    found: dict[Explainer, list[Attribution]] = {contract: [] for contract in contracts}
    for part in batch.parts():
        part.passes.gradient_wanted |= gradient_wanted
        part.passes.layers = layers
        for contract, method in methods.items():
            found[contract].append(method.attribute(part, contract))
    return {
        contract: joined(parts) if parts else methods[contract].attribute(batch, contract)
        for contract, parts in found.items()
    }


def joined(parts: Sequence[Attribution]) -> Attribution:
    """Attributions of consecutive images as one; at least one part."""
    if len(parts) == 1:
        return parts[0]
    return Attribution(
        torch.cat([part.maps for part in parts]),
        {name: torch.cat([part.diagnostics[name] for part in parts]) for name in parts[0].diagnostics},
    )
