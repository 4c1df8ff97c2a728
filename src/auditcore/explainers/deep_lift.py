"""DeepLIFT with the rescale rule, on the canonical model."""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from jaxtyping import Float, Int
from torch import Tensor, fx, nn

from auditcore.contracts.explainers import DeepLift
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.baselines import baseline_pixels
from auditcore.explainers.differentiation import input_gradient
from auditcore.explainers.gradient import completeness_error
from auditcore.explainers.relevance_model import MOVING_CALLS, MOVING_LAYERS
from auditcore.models.canonical import called_module, signal_path
from auditcore.models.classifier import Classifier
from auditcore.models.layers import Addition, Gate, SpatialMean
from auditcore.models.tracing import LINEAR_LAYERS

_ELEMENTWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus),
    *(nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.LogSigmoid, nn.Softsign),
)
"""Activations that act on single values: the rescale rule applies."""

_POOLINGS = (
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(SpatialMean, nn.Upsample),
)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

_LINEAR_CALLS = {
    *(operator.add, operator.iadd, operator.sub, operator.isub, operator.neg, torch.add, torch.sub, torch.mean),
    *("add", "add_", "sub", "sub_", "mean", "sum", torch.sum, F.avg_pool2d, F.adaptive_avg_pool2d),
}
"""Functions and methods that are affine in all their arguments."""


def incompatibility(classifier: Classifier, _contract: DeepLift) -> str | None:
    """Why contributions would not add up on this model: it cannot be traced, or a layer that matters has no rule."""
    canonical = classifier.canonical_or_reason()
    if isinstance(canonical, str):
        return canonical
    unruled = dict.fromkeys(_names_without_rule(canonical))
    if unruled:
        return f"the rescale rule of DeepLIFT does not cover {', '.join(unruled)}"
    return None


def deep_lift(batch: Batch, contract: DeepLift) -> Attribution:
    """Difference to a baseline, times a multiplier that is carried back layer by layer.

    The multiplier of a linear layer is its weight, so its gradient is right. That of an activation is the change of its
    output over the change of its input (rescale rule), or its derivative where the input does not change. Max pooling
    divides the change between the two places where image and baseline have their maximum. The rule of captum and
    SHAP.

    Returns:
        Maps and `completeness_error`: |sum of the map - (f(x) - f(baseline))| / |f(x) - f(baseline)|, which is
        only rounding.

    Source: Shrikumar et al. 2017, Eq. 1 to 6; max pooling as in SHAP and captum.
    """
    classifier, canonical = batch.classifier, batch.classifier.canonical
    maps, errors = [], []
    for part in batch.parts():
        inputs = part.inputs
        baselines = classifier.normalize(baseline_pixels(part, contract.baseline))
        with _references(canonical) as references:
            logits: Tensor = canonical(baselines)
        with _multipliers(references):
            multipliers, scores = input_gradient(canonical, inputs, part.targets)
        maps.append((inputs - baselines) * multipliers)
        change = scores - logits.gather(1, part.targets[:, None])[:, 0]
        errors.append(completeness_error(maps[-1], change))
    if not maps:
        return Attribution(torch.empty_like(batch.pixels), {"completeness_error": batch.pixels.new_empty(0)})
    return Attribution(torch.cat(maps), {"completeness_error": torch.cat(errors)})


def _names_without_rule(canonical: nn.Module) -> Iterator[str]:
    path = signal_path(canonical)
    covered = (
        *(*LINEAR_LAYERS, *_BATCH_NORMS, *_POOLINGS, *_ELEMENTWISE, Addition, nn.MaxPool2d),
        *MOVING_LAYERS,
    )
    for node in path:
        layer = called_module(canonical, node)
        if isinstance(layer, Gate):
            if _depends_on_image(node.args[1]):
                yield "products of two signals"
        elif layer is not None:
            if not isinstance(layer, covered):
                yield f"{type(layer).__name__} layers"
        elif node.op in {"call_function", "call_method"} and node.target not in MOVING_CALLS | _LINEAR_CALLS:
            yield f"{getattr(node.target, '__name__', node.target)}()"


def _depends_on_image(value: object) -> bool:
    """Whether a value is computed from the image, rather than a number or a parameter."""
    ahead, seen = [value], set()
    while ahead:
        node = ahead.pop()
        if not isinstance(node, fx.Node) or node in seen:
            continue
        if node.op == "placeholder":
            return True
        seen.add(node)
        ahead += node.all_input_nodes
    return False


@contextmanager
def _references(canonical: nn.Module) -> Iterator[dict[nn.Module, Tensor]]:
    """What every nonlinear layer receives inside the block."""
    received: dict[nn.Module, Tensor] = {}

    def record(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        received[layer] = inputs[0]

    handles = [layer.register_forward_pre_hook(record) for layer in _nonlinear_layers(canonical)]
    try:
        with torch.no_grad():
            yield received
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _multipliers(references: dict[nn.Module, Tensor]) -> Iterator[None]:
    """Let nonlinear layers pass multipliers back in place of gradients."""
    precise = {layer: copy.deepcopy(layer).double() for layer in references}

    def carry(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        reference = references[layer]
        if isinstance(layer, nn.MaxPool2d):
            return _cross_maximum(layer, inputs[0], reference)
        multiplier = _rescale(precise[layer], inputs[0].detach(), reference)
        return output.detach() + multiplier * (inputs[0] - inputs[0].detach())

    handles = [layer.register_forward_hook(carry) for layer in references]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _nonlinear_layers(canonical: nn.Module) -> list[nn.Module]:
    return [layer for layer in canonical.modules() if isinstance(layer, (*_ELEMENTWISE, nn.MaxPool2d))]


def _rescale(precise: nn.Module, x: Float[Tensor, "..."], reference: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Change of the output over change of the input, value by value.

    In float64, where a change of the last bit of a float32 input still gives a quotient with eight digits. So the
    derivative is needed only where there is no change at all, and no threshold has to be chosen.
    """
    with torch.enable_grad():
        precisely = x.double().requires_grad_()
        output = precise(precisely)
        (slope,) = torch.autograd.grad(output.sum(), precisely)
    change = precisely.detach() - reference.double()
    quotient = (output.detach() - precise(reference.double())) / change
    return torch.where(change == 0, slope, quotient).to(x)


def _cross_maximum(
    pool: nn.MaxPool2d,
    x: Float[Tensor, "image channel height width"],
    reference: Float[Tensor, "image channel height width"],
) -> Float[Tensor, "image channel h w"]:
    """Max pooling whose gradients are multipliers.

    From the reference's maximum to the image's, the output changes in two steps: up to the larger of the two at the
    image's place, then down from it at the reference's place. Each step belongs to the place where it happens. The
    value there has changed by at least as much, so the quotients lie in [0,1].
    """
    output, places = _pooled(pool, x.detach())
    reference_output, reference_places = _pooled(pool, reference)
    larger = torch.maximum(output, reference_output)
    carried = output
    for step, at, unchanged in (
        (larger - reference_output, places, 1.0),
        (output - larger, reference_places, 0.0),
    ):
        value = _at(x, at)
        change = value.detach() - _at(reference, at)
        multiplier = torch.where(change == 0, unchanged, step / change)
        carried = carried + multiplier * (value - value.detach())
    return carried


def _pooled(
    pool: nn.MaxPool2d, x: Float[Tensor, "image channel height width"]
) -> tuple[Float[Tensor, "image channel h w"], Int[Tensor, "image channel h w"]]:
    output, places = F.max_pool2d(
        x, pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode, return_indices=True
    )
    return output, places


def _at(
    values: Float[Tensor, "image channel height width"], places: Int[Tensor, "image channel h w"]
) -> Float[Tensor, "image channel h w"]:
    """Values at flat positions, channel by channel."""
    return values.flatten(2).gather(2, places.flatten(2)).view(places.shape)
