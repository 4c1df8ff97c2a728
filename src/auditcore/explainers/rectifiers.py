"""Methods that change only how rectifiers pass gradients back: guided backpropagation and deconvolution."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from zennit.composites import LayerMapComposite
from zennit.rules import ReLUDeconvNet, ReLUGuidedBackprop

from auditcore.contracts.explainers import Deconvolution, ExplainerContract, GuidedBackpropagation
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.differentiation import input_gradient
from auditcore.models.canonical import RECTIFIERS, rectifiers
from auditcore.models.classifier import Classifier


def incompatibility(classifier: Classifier, _contract: ExplainerContract) -> str | None:
    """Why changing rectifiers is not right on this model: it has none, or they cannot be found."""
    canonical = classifier.canonical_or_reason()
    if isinstance(canonical, str):
        return canonical
    if not rectifiers(canonical):
        return (
            "the model has no rectifier (ReLU, ReLU6, LeakyReLU) on the way from image to logits, so this method would "
            "be the plain gradient under another name"
        )
    return None


def guided_backpropagation(batch: Batch, _contract: GuidedBackpropagation) -> Attribution:
    """Gradient in which a rectifier passes back only positive values, and only where it was active.

    Source: Springenberg et al. 2015, Fig. 1.
    """
    return Attribution(guided_gradients(batch))


def guided_gradients(batch: Batch) -> Float[Tensor, "image channel height width"]:
    """Maps of guided backpropagation, computed once for all methods that read them."""
    if not len(batch):
        return torch.empty_like(batch.pixels)
    parts = []
    for part in batch.parts():
        if part.passes.guided is None:
            part.passes.guided = _gradients(part, ReLUGuidedBackprop())
        parts.append(part.passes.guided)
    return torch.cat(parts)


def deconvolution(batch: Batch, _contract: Deconvolution) -> Attribution:
    """Gradient in which a rectifier passes back only positive values, whether or not it was active.

    The image matters only through other layers, such as max pooling. On a model whose only nonlinear layers are
    rectifiers, such as the demo model, all images of a class have the same map: its stability is perfect and says
    nothing.

    Source: Zeiler & Fergus 2014; Springenberg et al. 2015, Fig. 1.
    """
    return Attribution(_gradients(batch, ReLUDeconvNet()))


def _gradients(batch: Batch, rule: ReLUGuidedBackprop | ReLUDeconvNet) -> Float[Tensor, "image channel height width"]:
    canonical = batch.classifier.canonical
    composite = LayerMapComposite(layer_map=[(RECTIFIERS, rule)])
    with composite.context(canonical):
        parts = [input_gradient(canonical, part.inputs, part.targets)[0] for part in batch.parts()]
    return torch.cat(parts) if parts else torch.empty_like(batch.pixels)
