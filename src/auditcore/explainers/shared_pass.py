"""One pass through the plain model for everything that reads it: logits, input gradient, features of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from auditcore.errors import NotApplicable
from auditcore.explainers.attribution import Batch, MadePasses
from auditcore.models.classifier import Classifier
from auditcore.models.folding import Folded
from auditcore.models.target_gradient import one_hot

Targets = Tensor | None
"""(N,) target classes; None for the most probable one of each image."""


def pass_once(
    classifier: Classifier,
    inputs: Float[Tensor, "image channel height width"],
    targets: Targets,
    *,
    gradient: bool,
    layers: Sequence[str] = (),
) -> MadePasses:
    """Logits, and the wanted gradients in one pass back.

    Args:
        classifier: The model under audit.
        inputs: Normalized images of one micro-batch.
        targets: The class whose logit is differentiated.
        gradient: Whether the gradient of the input is wanted; without it the graph begins at the layers.
        layers: Layers whose features and gradients are wanted. Where a layer runs twice, the last run counts.

    Raises:
        NotApplicable: The logits do not depend on one of the layers.
    """
    if not gradient and not layers:
        return MadePasses(logits=classifier.score(inputs))
    if gradient and not layers:
        slopes, scores = classifier.gradient(inputs, targets)
        return MadePasses(gradient_wanted=True, logits=scores, gradient=slopes)
    model = classifier.readable(layers) if layers else Folded(classifier.folded, {})
    leaf = inputs.detach().requires_grad_(gradient)
    with torch.enable_grad(), _recording(model.module, model.layers) as outputs:
        logits: Tensor = model.module(leaf)
    missing = next((name for name in layers if name not in outputs), None)
    if missing is not None or not logits.requires_grad:
        msg = f"the logits do not depend on layer {missing or layers[0]!r}; name a layer on the way to them"
        raise NotApplicable(msg)
    start = one_hot(targets, logits)
    wanted = [*([leaf] if gradient else []), *(outputs[name] for name in layers)]
    found = torch.autograd.grad(logits, wanted, start, allow_unused=True)
    if any(each is None for each in found):
        unused = next(name for name, each in zip(layers, found[-len(layers) :], strict=True) if each is None)
        msg = f"the logits do not depend on layer {unused!r}; name a layer on the way to them"
        raise NotApplicable(msg)
    features = dict(
        zip(layers, zip((outputs[name].detach() for name in layers), found[gradient:], strict=True), strict=True)
    )
    return MadePasses(
        gradient_wanted=gradient,
        layers=tuple(layers),
        logits=logits.detach(),
        gradient=found[0] if gradient else None,
        features=features,
    )


def input_gradients(batch: Batch) -> Float[Tensor, "image channel height width"]:
    """Gradient of each image's target logit with respect to the normalized input, computed once for all methods."""
    if not len(batch):
        return torch.empty_like(batch.pixels)
    return torch.cat([_gradient(part) for part in batch.parts()])


def layer_features(batch: Batch, layer: str) -> tuple[Float[Tensor, "image ..."], Float[Tensor, "image ..."]]:
    """Output of a layer and the target logits' gradient by it, for one micro-batch."""
    if layer not in batch.passes.features:
        _make(batch, gradient=batch.passes.gradient_wanted, layers=tuple(dict.fromkeys((*batch.passes.layers, layer))))
    return batch.passes.features[layer]


def image_logits(batch: Batch) -> Float[Tensor, "image class"]:
    """Logits of the images; no new pass if they are known."""
    if not len(batch):
        return batch.pixels.new_empty(0, batch.classifier.classes)
    return torch.cat([_logits(part) for part in batch.parts()])


def color_logits(batch: Batch, color: str, pixels: Float[Tensor, "1 channel height width"]) -> Float[Tensor, "1 class"]:
    """Logits of an image of one color, computed once for all images, explainers and checks of a shard.

    Args:
        batch: Its `colors` keep them.
        color: Name of the color: `black` or `mean`.
        pixels: One image of that color, in pixel space.
    """
    if color not in batch.colors:
        batch.colors[color] = batch.classifier.logits(pixels)
    return batch.colors[color]


def _gradient(part: Batch) -> Float[Tensor, "image channel height width"]:
    if part.passes.gradient is None:
        _make(part, gradient=True, layers=part.passes.layers)
    gradient = part.passes.gradient
    assert gradient is not None  # noqa: S101 - just made
    return gradient


def _logits(part: Batch) -> Float[Tensor, "image class"]:
    if part.passes.logits is None:
        part.passes.logits = part.classifier.logits(part.pixels)
    return part.passes.logits


def _make(part: Batch, *, gradient: bool, layers: tuple[str, ...]) -> None:
    """Make one pass and keep its results."""
    made = pass_once(part.classifier, part.inputs, part.targets, gradient=gradient, layers=layers)
    known = part.passes
    known.logits = made.logits
    known.gradient = made.gradient if known.gradient is None else known.gradient
    known.features |= made.features


@contextmanager
def _recording(module: nn.Module, layers: Mapping[str, str]) -> Iterator[dict[str, Tensor]]:
    """Outputs of layers by their name in the original model, given their names in this one.

    If nothing before a layer needs a gradient, the graph begins at its output.
    """
    outputs: dict[str, Tensor] = {}

    def record(name: str) -> Callable[[nn.Module, object, Tensor], Tensor]:
        def hook(_layer: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            outputs[name] = output if output.requires_grad else output.detach().requires_grad_()
            # an in-place activation may follow, so it gets a copy
            return outputs[name].clone()

        return hook

    with ExitStack() as handles:
        for name, place in layers.items():
            handle = module.get_submodule(place).register_forward_hook(record(name))
            handles.callback(handle.remove)
        yield outputs
