"""Methods that weight feature maps: Grad-CAM, by itself and times guided backpropagation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows

from auditcore.contracts.explainers import GradCam, GuidedGradCam
from auditcore.errors import NotApplicable
from auditcore.explainers import rectifiers
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.shared_pass import layer_features
from auditcore.models.classifier import Classifier
from auditcore.models.feature_maps import as_maps
from auditcore.models.loaders.suggestions import near

MOST_CANDIDATES = 5
"""How many layers an error lists, beginning at the logits."""


def incompatibility(classifier: Classifier, contract: GradCam | GuidedGradCam) -> str | None:
    """Why there is no class activation map: no layer keeps positions, or the named layer does not."""
    name = layer_name(classifier, contract)
    if name is None:
        if not classifier.feature_layers:
            return "the model has no layer that gives feature maps of more than one position"
        return (
            "no block of the model holds everything that flows to the logits; name a layer with feature maps in "
            f"`layer`, such as {_listed(classifier.feature_layers[::-1])}"
        )
    if name not in classifier.layouts:
        hint = near(name, classifier.feature_layers)
        return (
            f"the model has no layer {name!r} that gives feature maps of more than one position{hint}; "
            f"layers that do, from the last: {_listed(candidates(classifier))}"
        )
    if classifier.layouts[name] != "channels_first" and name not in classifier.feature_grids:
        return (
            f"the logits do not depend on the positions of layer {name!r}, only on its class token if at all; "
            f"layers on whose positions they do, from the last: {_listed(candidates(classifier))}"
        )
    return None


def candidates(classifier: Classifier) -> tuple[str, ...]:
    """Layers that can give a class activation map: the default first, then the others from the last one on.

    If the model has layers through which everything flows, only those.
    """
    through = tuple(dict.fromkeys(flow.name for flow in reversed(classifier.flows) if flow.value is not None))
    default = classifier.last_feature_layer
    usable = [
        name
        for name in (through or classifier.feature_layers[::-1])
        if classifier.layouts[name] == "channels_first" or name in classifier.feature_grids
    ]
    return tuple(dict.fromkeys(([] if default is None else [default]) + usable))


def _listed(layers: Sequence[str]) -> str:
    return ", ".join(repr(layer) for layer in layers[:MOST_CANDIDATES]) or "none"


def guided_incompatibility(classifier: Classifier, contract: GuidedGradCam) -> str | None:
    """Why one of the two factors cannot be right."""
    return incompatibility(classifier, contract) or rectifiers.incompatibility(classifier, contract)


def grad_cam(batch: Batch, contract: GradCam | GuidedGradCam) -> Attribution:
    """Feature maps of a layer, weighted by their mean gradient, summed, rectified and upsampled to the image.

    Of the tokens of a transformer only the grid is used, without class token and registers. If the contract names no
    layer, it is the last one through which everything flows to the logits: `classifier.last_feature_layer`.

    Raises:
        NotApplicable: There is no such layer, or the logits do not depend on it.

    Source: Selvaraju et al. 2017, Eq. 1 and 2; upsampling is bilinear with `align_corners=False`.
    """
    reason = incompatibility(batch.classifier, contract)
    name = layer_name(batch.classifier, contract)
    if reason is not None or name is None:
        raise NotApplicable(reason or "")
    layout = batch.classifier.layouts[name]
    parts = []
    for part in batch.parts():
        features, gradients = (
            as_maps(values.float(), layout, part.classifier.shape) for values in layer_features(part, name)
        )
        weights = gradients.mean((2, 3), keepdim=True)
        cam = (weights * features).sum(1, keepdim=True).relu()
        parts.append(F.interpolate(cam, size=tuple(part.pixels.shape[2:]), mode="bilinear", align_corners=False))
    return Attribution(torch.cat(parts) if parts else batch.pixels[:, :1])


def guided_grad_cam(batch: Batch, contract: GuidedGradCam) -> Attribution:
    """Grad-CAM times guided backpropagation, pixel by pixel.

    Source: Selvaraju et al. 2017, section 3.2. Upsampling is bilinear, as the authors say; captum's default, nearest,
    gives all pixels of a cell the same factor.
    """
    return Attribution(grad_cam(batch, contract).maps * rectifiers.guided_gradients(batch))


def layer_name(classifier: Classifier, contract: GradCam | GuidedGradCam) -> str | None:
    """Path of the layer that a contract means; None if the model has no suitable one."""
    if contract.layer is None:
        return classifier.last_feature_layer
    if contract.layer == "first" and isinstance(contract, GuidedGradCam):
        return next(iter(classifier.convolutions), None)
    return contract.layer
