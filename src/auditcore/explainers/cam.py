"""Methods that weight feature maps: Grad-CAM, alone and times guided backpropagation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from jaxtyping import Float, Int
from torch import Tensor, nn

from auditcore.contracts.explainers import GradCam, GuidedBackpropagation, GuidedGradCam
from auditcore.errors import NotApplicable
from auditcore.explainers import rectifiers
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.differentiation import one_hot
from auditcore.models.classifier import Classifier
from auditcore.models.feature_maps import as_maps
from auditcore.models.loaders.suggestions import near


def obstacle(classifier: Classifier, contract: GradCam | GuidedGradCam) -> str | None:
    """Why there is no class activation map: no layer keeps positions, or the layer named is none of those that do."""
    name = _layer_name(classifier, contract)
    if name is None:
        return "the model has no convolution that keeps more than one position; name a layer that gives feature maps"
    if name not in classifier.layouts:
        hint = near(name, classifier.feature_layers) or f"; one that does is {_last(classifier.feature_layers)}"
        return f"the model has no layer {name!r} that gives feature maps of more than one position{hint}"
    if classifier.layouts[name] != "channels_first" and name not in classifier.feature_grids:
        return (
            f"the logits do not depend on the positions of layer {name!r}, only on its class token if at all; "
            f"one on whose positions they do is {_last(classifier.feature_grids)}"
        )
    return None


def _last(layers: Sequence[str]) -> str:
    return repr(layers[-1]) if layers else "none of them"


def guided_obstacle(classifier: Classifier, contract: GuidedGradCam) -> str | None:
    """Why one of the two factors cannot be right."""
    return obstacle(classifier, contract) or rectifiers.obstacle(classifier, contract)


def grad_cam(batch: Batch, contract: GradCam | GuidedGradCam) -> Attribution:
    """Feature maps of a layer, weighted by their mean gradient, summed, rectified and upsampled to the image.

    Of a transformer's tokens the grid counts; class token and registers are dropped.

    Raises:
        NotApplicable: There is no such layer, or the logits do not depend on it.

    Source: Selvaraju et al. 2017, Eq. 1 and 2; upsampling is bilinear with `align_corners=False`.
    """
    reason = obstacle(batch.classifier, contract)
    name = _layer_name(batch.classifier, contract)
    if reason is not None or name is None:
        raise NotApplicable(reason or "")
    layer, layout = batch.classifier.module.get_submodule(name), batch.classifier.layouts[name]
    parts = []
    for part in batch.parts():
        features, gradients = (
            as_maps(values, layout)
            for values in _features_and_gradients(batch.classifier.module, layer, name, part.inputs, part.targets)
        )
        weights = gradients.mean((2, 3), keepdim=True)
        cam = (weights * features).sum(1, keepdim=True).relu()
        parts.append(F.interpolate(cam, size=tuple(part.pixels.shape[2:]), mode="bilinear", align_corners=False))
    return Attribution(torch.cat(parts) if parts else batch.pixels[:, :1])


def guided_grad_cam(batch: Batch, contract: GuidedGradCam) -> Attribution:
    """Grad-CAM times guided backpropagation, pixel by pixel.

    Source: Selvaraju et al. 2017, section 3.2. Upsampling is bilinear, as the authors say; captum's default, nearest,
    gives all pixels of a cell one factor.
    """
    guided = rectifiers.guided_backpropagation(batch, GuidedBackpropagation())
    return Attribution(grad_cam(batch, contract).maps * guided.maps)


def _layer_name(classifier: Classifier, contract: GradCam | GuidedGradCam) -> str | None:
    """Path of the layer that a contract means."""
    if contract.layer is None:
        return classifier.last_feature_layer
    if contract.layer == "first" and isinstance(contract, GuidedGradCam):
        return next(iter(classifier.convolutions), None)
    return contract.layer


def _features_and_gradients(
    module: nn.Module,
    layer: nn.Module,
    name: str,
    inputs: Float[Tensor, "image 3 height width"],
    targets: Int[Tensor, " image"],
) -> tuple[Float[Tensor, "image ..."], Float[Tensor, "image ..."]]:
    """Output of a layer and the target logits' gradient with respect to it.

    The graph begins at the layer: nothing below it is differentiated. Where the layer runs twice, the last run counts.
    """
    outputs: list[Tensor] = []

    def begin_graph(_layer: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        outputs.append(output.detach().requires_grad_())
        # a copy goes on, since an in-place activation may follow
        return outputs[-1].clone()

    handle = layer.register_forward_hook(begin_graph)
    try:
        with torch.enable_grad():
            logits = module(inputs)
    finally:
        handle.remove()
    if not outputs or not logits.requires_grad:
        msg = f"the logits do not depend on layer {name!r}; name a layer on the way to them"
        raise NotApplicable(msg)
    (gradients,) = torch.autograd.grad(logits, outputs[-1], one_hot(targets, logits))
    return outputs[-1].detach(), gradients
