"""RecursiveMix.

Source: Yang et al. 2022, section 3, and the authors' code.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import roi_align

from auditcore.contracts.models import Scores
from auditcore.contracts.training.methods.recursive_mix import RecursiveMix
from auditcore.errors import ModelNotTrainable
from auditcore.models.classifier import Classifier
from auditcore.models.feature_maps import as_maps
from auditcore.training.draws import generator
from auditcore.training.method import Method, MethodSetting, Step, TrainingBatch
from auditcore.training.network import Network
from auditcore.training.pasted_boxes import (
    PixelBox,
    box_around,
    labels_by_share,
    random_pixel,
    sides_for,
)


@final
@dataclass(frozen=True)
class LastStep:
    """What the next step needs of the last one.

    Attributes:
        pixels: The mixed images.
        targets: Their labels.
        predictions: Their probabilities.
    """

    pixels: Float[Tensor, "image channel height width"]
    targets: Float[Tensor, "image class"]
    predictions: Float[Tensor, "image class"]


@final
class RecursiveMixTraining(Method):
    """The cross-entropy of images into which those of the last step are pasted, and their consistency."""

    def __init__(self, contract: RecursiveMix, setting: MethodSetting) -> None:
        """Make the linear layer that reads a prediction from a part of the feature map.

        Raises:
            ModelNotTrainable: The model has no last feature layer.
        """
        self._contract = contract
        self._last: LastStep | None = None
        start = setting.network.start
        layer = start.last_feature_layer
        if layer is None:
            msg = (
                "method 'recursive_mix' reads a prediction from a part of the model's last feature map, and this model "
                "has no layer with such a map through which all of its computation flows; take 'cutmix', which "
                "pastes boxes without it"
            )
            raise ModelNotTrainable(msg, field="plan.method.kind")
        self._layer = layer
        channels = _channels(start, layer)
        bound = 1 / math.sqrt(channels)  # that of torch.nn.Linear
        random = generator(setting.seed, "recursive_mix")
        weight, bias = (
            torch.from_numpy(random.uniform(-bound, bound, shape)).float().to(start.device)
            for shape in ((setting.network.classes, channels), (setting.network.classes,))
        )
        self._weight, self._bias = nn.Parameter(weight), nn.Parameter(bias)

    def parameters(self) -> Sequence[nn.Parameter]:
        """Of the linear layer."""
        return self._weight, self._bias

    def state(self) -> dict[str, Tensor]:
        """The linear layer and the last step."""
        found = {"weight": self._weight.detach(), "bias": self._bias.detach()}
        if self._last is not None:
            found |= {
                "pixels": self._last.pixels,
                "targets": self._last.targets,
                "predictions": self._last.predictions,
            }
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""
        device = self._weight.device
        with torch.no_grad():
            self._weight.copy_(state["weight"])
            self._bias.copy_(state["bias"])
        self._last = (
            LastStep(*(state[name].to(device) for name in ("pixels", "targets", "predictions")))
            if "pixels" in state
            else None
        )

    def step(self, network: Network, batch: TrainingBatch) -> Step:
        """The loss of the mixed batch; that of the batch as it is in the first step."""
        height, width = batch.pixels.shape[2:]
        frame = (height, width)
        # drawn in every step, so that the first one is like the others
        share = float(batch.random.uniform(0, self._contract.alpha))
        box = box_around(random_pixel(batch.random, frame), sides_for(share, frame), frame)
        pixels, targets, mixed = self._mixed(batch, box)
        with _output_of(network.module, self._layer) as outputs:
            logits = network.logits(pixels)
        loss = network.losses(logits, targets).mean()
        share = box.share(frame) if mixed else 0.0
        facts = {"pasted_share": share, "consistency_loss": 0.0}
        if mixed and self._contract.loss_weight and self._last is not None:
            maps = as_maps(outputs[-1], network.start.layouts[self._layer], network.start.shape).float()
            part_logits = self._part_logits(maps[:mixed], box, frame)
            divergences = divergence(network, part_logits, self._last.predictions[:mixed])
            consistency = divergences.sum() / len(batch)
            loss = loss + self._contract.loss_weight * share * consistency
            facts["consistency_loss"] = float(consistency.detach())
        self._last = LastStep(pixels.detach(), targets.detach(), probabilities(logits.detach(), network.scores))
        return Step(loss, facts)

    def _mixed(self, batch: TrainingBatch, box: PixelBox) -> tuple[Tensor, Tensor, int]:
        """Images and labels with those of the last step, and how many of them are mixed: the first ones."""
        if self._last is None or 0 in box.sides:
            return batch.pixels, batch.targets, 0
        mixed = min(len(batch), len(self._last.pixels))
        smaller = functional.interpolate(
            self._last.pixels[:mixed],
            size=box.sides,
            mode=self._contract.resize,
            align_corners=True if self._contract.resize == "bilinear" else None,
        )
        pixels, targets = batch.pixels.clone(), batch.targets.clone()
        pixels[:mixed, :, box.top : box.bottom, box.left : box.right] = smaller
        height, width = pixels.shape[2:]
        shares = torch.full((mixed,), box.share((height, width)), device=pixels.device)
        targets[:mixed] = labels_by_share(targets[:mixed], self._last.targets[:mixed], shares)
        return pixels, targets, mixed

    def _part_logits(self, maps: Tensor, box: PixelBox, frame: tuple[int, int]) -> Tensor:
        """What the linear layer reads from a part of feature maps."""
        rows, columns = (cells / side for cells, side in zip(maps.shape[2:], frame, strict=True))
        corners = [box.left * columns, box.top * rows, box.right * columns, box.bottom * rows]
        part = torch.tensor([corners], dtype=maps.dtype, device=maps.device)
        pooled = roi_align(maps, [part] * len(maps), output_size=1, aligned=True).flatten(1)
        return functional.linear(pooled, self._weight, self._bias)


def probabilities(logits: Float[Tensor, "image class"], scores: Scores) -> Float[Tensor, "image class"]:
    """Class probabilities in [0,1]: softmax, or sigmoid for a multi-label model."""
    return logits.softmax(dim=1) if scores == "softmax" else logits.sigmoid()


def divergence(
    network: Network, logits: Float[Tensor, "image class"], expected: Float[Tensor, "image class"]
) -> Float[Tensor, " image"]:
    """Kullback-Leibler divergence from expected probabilities to those of logits, at least 0.

    Args:
        network: Decides on softmax, or the mean over classes of present and absent.
        logits: With gradient.
        expected: Probabilities without gradient.
    """
    present: Tensor = torch.special.entr(expected)
    absent: Tensor = torch.special.entr(1 - expected)
    entropy = present.sum(dim=1) if network.scores == "softmax" else (present + absent).mean(dim=1)
    return network.losses(logits, expected) - entropy


def _channels(start: Classifier, layer: str) -> int:
    """Channels of a feature map, by a pass that counts nowhere."""
    image = torch.zeros(2, *start.shape, device=start.device)
    with start.ledger.paused(), torch.no_grad(), _output_of(start.module, layer) as outputs:
        start.module(image)
    return as_maps(outputs[-1], start.layouts[layer], start.shape).shape[1]


@contextmanager
def _output_of(module: nn.Module, layer: str) -> Iterator[list[Tensor]]:
    """Outputs of a layer in the block; the last one is that of its last run."""
    outputs: list[Tensor] = []
    handle = module.get_submodule(layer).register_forward_hook(lambda _layer, _inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()
