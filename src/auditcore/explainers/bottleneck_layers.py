"""Layers that can be a bottleneck: everything that reaches the logits must pass through them.

Restricting the information of a layer has no effect if information flows around it: with a convolution inside a
residual block, the skip connection carries the rest.
"""

from __future__ import annotations

from itertools import accumulate

from torch import nn

from auditcore.models.classifier import Classifier

_WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def passages(classifier: Classifier) -> tuple[str, ...]:
    """Feature layers, in the order in which they run, around which nothing flows from the image to the logits.

    Tokens beside a class token do not qualify, since the class token carries information of all positions.
    """
    return tuple(flow.name for flow in classifier.flows if flow.value is not None and flow.prefix == 0)


def nearest_passage(classifier: Classifier) -> str | None:
    """The passage that ends nearest to two thirds of the depth, the first of those that are equally near.

    Depth counts the convolutions and linear layers with feature maps, in the order in which they run.
    """
    weighted = [isinstance(classifier.module.get_submodule(name), _WEIGHTED) for name in classifier.feature_layers]
    depths = dict(zip(classifier.feature_layers, accumulate(weighted), strict=True))
    # in integers, so that ties are exact
    return min(passages(classifier), key=lambda name: abs(3 * depths[name] - 2 * sum(weighted)), default=None)
