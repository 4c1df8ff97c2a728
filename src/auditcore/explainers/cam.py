"""Methods that weight feature maps: Grad-CAM, alone and times guided backpropagation."""

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


def obstacle(classifier: Classifier, contract: GradCam | GuidedGradCam) -> str | None:
    """Why there is no class activation map: no layer keeps positions, or the layer named is none of those that do."""
    name = layer_name(classifier, contract)
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
    name = layer_name(batch.classifier, contract)
    if reason is not None or name is None:
        raise NotApplicable(reason or "")
    layout = batch.classifier.layouts[name]
    parts = []
    for part in batch.parts():
        features, gradients = (as_maps(values.float(), layout) for values in layer_features(part, name))
        weights = gradients.mean((2, 3), keepdim=True)
        cam = (weights * features).sum(1, keepdim=True).relu()
        parts.append(F.interpolate(cam, size=tuple(part.pixels.shape[2:]), mode="bilinear", align_corners=False))
    return Attribution(torch.cat(parts) if parts else batch.pixels[:, :1])


def guided_grad_cam(batch: Batch, contract: GuidedGradCam) -> Attribution:
    """Grad-CAM times guided backpropagation, pixel by pixel.

    Source: Selvaraju et al. 2017, section 3.2. Upsampling is bilinear, as the authors say; captum's default, nearest,
    gives all pixels of a cell one factor.
    """
    return Attribution(grad_cam(batch, contract).maps * rectifiers.guided_gradients(batch))


def layer_name(classifier: Classifier, contract: GradCam | GuidedGradCam) -> str | None:
    """Path of the layer that a contract means; None where the model has none that will do."""
    if contract.layer is None:
        return classifier.last_feature_layer
    if contract.layer == "first" and isinstance(contract, GuidedGradCam):
        return next(iter(classifier.convolutions), None)
    return contract.layer
