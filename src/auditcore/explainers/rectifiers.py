"""Methods that change only how rectifiers pass gradients back: guided backpropagation and deconvolution."""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from zennit.composites import LayerMapComposite
from zennit.rules import ReLUDeconvNet, ReLUGuidedBackprop

from auditcore.contracts.explainers import Deconvolution, ExplainerContract, GuidedBackpropagation
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.autograd_graph import operation, operations_before, recording
from auditcore.explainers.differentiation import input_gradient
from auditcore.models.canonical import RECTIFIERS, rectifiers
from auditcore.models.classifier import Classifier


def incompatibility(classifier: Classifier, _contract: ExplainerContract) -> str | None:
    """Why changing rectifiers is not right on this model: it has none, or they cannot be found."""
    canonical = classifier.canonical_or_reason()
    if not isinstance(canonical, str) and rectifiers(canonical):
        return None
    operations = _operations(classifier.exact)
    if isinstance(canonical, str) and operations & _RECTIFYING:
        return canonical
    smooth = [name for operation, name in _SMOOTH.items() if operation in operations]
    instead = f", its activations are {' and '.join(smooth)}" if smooth else ""
    return (
        f"the model has no rectifier (ReLU, ReLU6, LeakyReLU) on the way from image to logits{instead}; this method "
        "would be the plain gradient under another name, so use gradient"
    )


_RECTIFYING = frozenset({"Hardtanh", "LeakyRelu", "Relu"})
"""Operations of rectifiers; ReLU6 is a Hardtanh."""

_SMOOTH: Mapping[str, str] = {
    "Gelu": "GELU",
    "Silu": "SiLU",
    "Mish": "Mish",
    "Hardswish": "Hardswish",
    "Elu": "ELU",
    "Celu": "CELU",
    "Softplus": "Softplus",
    "Tanh": "Tanh",
}
"""Operations of activations that are no rectifiers -> their usual names."""

_OPERATIONS: WeakKeyDictionary[nn.Module, frozenset[str]] = WeakKeyDictionary()
"""Module -> names of the operations between image and logits."""


def _operations(classifier: Classifier) -> frozenset[str]:
    module = classifier.module
    if module not in _OPERATIONS:
        image = torch.zeros(1, *classifier.shape, device=classifier.device).requires_grad_()
        with classifier.ledger.paused(), recording(attention_matrices=False):
            logits: Tensor = module(image)
        _OPERATIONS[module] = frozenset(operation(node) for node in operations_before(logits))
    return _OPERATIONS[module]


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
