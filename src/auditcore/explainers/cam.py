"""Methods that weight feature maps: Grad-CAM."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from jaxtyping import Float, Int
from torch import Tensor, nn

from auditcore.contracts.explainers import GradCam
from auditcore.errors import NotApplicable
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.differentiation import one_hot
from auditcore.models.classifier import Classifier
from auditcore.models.loaders.suggestions import near


def obstacle(classifier: Classifier, contract: GradCam) -> str | None:
    """Why there is no class activation map: no convolution keeps positions, or the layer named is unknown."""
    if contract.layer is None:
        if not classifier.convolutions:
            return (
                "the model has no convolution that keeps more than one position; name a layer that gives feature maps"
            )
        return None
    if contract.layer in classifier.feature_layers:
        return None
    hint = near(contract.layer, classifier.feature_layers) or f"; one that does is {classifier.feature_layers[-1:]}"
    return f"the model has no layer {contract.layer!r} that gives feature maps of more than one position{hint}"


def grad_cam(batch: Batch, contract: GradCam) -> Attribution:
    """Feature maps of a layer, weighted by their mean gradient, summed, rectified and upsampled to the image.

    Raises:
        NotApplicable: There is no such layer, or the logits do not depend on it.

    Source: Selvaraju et al. 2017, Eq. 1 and 2; upsampling is bilinear with `align_corners=False`.
    """
    reason = obstacle(batch.classifier, contract)
    if reason is not None:
        raise NotApplicable(reason)
    name = contract.layer if contract.layer is not None else batch.classifier.convolutions[-1]
    layer = batch.classifier.module.get_submodule(name)
    parts = []
    for part in batch.parts():
        features, gradients = _features_and_gradients(batch.classifier.module, layer, name, part.inputs, part.targets)
        weights = gradients.mean((2, 3), keepdim=True)
        cam = (weights * features).sum(1, keepdim=True).relu()
        parts.append(F.interpolate(cam, size=tuple(part.pixels.shape[2:]), mode="bilinear", align_corners=False))
    return Attribution(torch.cat(parts) if parts else batch.pixels[:, :1])


def _features_and_gradients(
    module: nn.Module,
    layer: nn.Module,
    name: str,
    inputs: Float[Tensor, "image 3 height width"],
    targets: Int[Tensor, " image"],
) -> tuple[Float[Tensor, "image channel h w"], Float[Tensor, "image channel h w"]]:
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
