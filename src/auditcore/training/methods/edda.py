"""EDDA: training on images that the model's own explanations have masked.

Source: Li et al. 2021, section 3 and appendix A. Equations 3 and 4 decide what is masked; algorithms 2 and 3 print the
comparisons the other way round.
"""

from __future__ import annotations

from typing import NamedTuple, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from auditcore.contracts.training.methods.edda import Edda
from auditcore.metrics.constancy import is_constant
from auditcore.metrics.faithfulness import threshold_masks
from auditcore.metrics.reduction import ranking_relevance
from auditcore.training.method import Method, MethodSetting, Step, TrainingBatch
from auditcore.training.network import Network

FEWEST_IMAGES = 2
"""Batch normalization has no statistics of a single image."""


class MaskedImages(NamedTuple):
    """Masked copies that join a batch.

    Attributes:
        pixels: The copies, in pixel space [0,1]; umasks first.
        images: Of which image of the batch each of them is.
        facts: What is said of the step.
    """

    pixels: Float[Tensor, "copy channel height width"]
    images: Int[Tensor, " copy"]
    facts: dict[str, float]


@final
class EddaTraining(Method):
    """The mean loss of a batch and of those of its masked copies that are still predicted right."""

    def __init__(self, contract: Edda, setting: MethodSetting) -> None:
        """Refuse an explainer that does not run on the network.

        Raises:
            ModelNotTrainable: The explainer is not right on this model.
        """
        self._contract = contract
        self._plain_epochs = round(contract.begin * setting.epochs)
        setting.network.require_explainable(contract.explainer)

    def step(self, network: Network, batch: TrainingBatch) -> Step:
        """The loss of the enlarged batch.

        Without the originals, a step may have fewer than two images left. Then it learns nothing: the loss and its
        gradient are 0. Momentum and weight decay still move the weights.

        Raises:
            ModelNotTrainable: The explainer is not right on this model.
            TrainingDiverged: Logits of the model are NaN or infinite.
        """
        if batch.epoch < self._plain_epochs:
            return Step(network.losses(network.logits(batch.pixels), batch.targets).mean())
        added = masked_images(self._contract, network, batch)
        pixels, targets = added.pixels, batch.targets[added.images]
        if self._contract.keep_original:
            pixels, targets = torch.cat([batch.pixels, pixels]), torch.cat([batch.targets, targets])
        elif len(pixels) < FEWEST_IMAGES:
            weights = (weight for weight in network.module.parameters() if weight.requires_grad)
            return Step(torch.stack([0 * weight.sum() for weight in weights]).sum(), added.facts)
        return Step(network.losses(network.logits(pixels), targets).mean(), added.facts)


def masked_images(contract: Edda, network: Network, batch: TrainingBatch) -> MaskedImages:
    """The masked copies that join a batch.

    Predictions and maps are those of the network in evaluation mode, with the weights of this moment.

    Args:
        contract: What is masked, and by which map.
        network: The network in training.
        batch: Its batch.

    Returns:
        The copies for which the class of their map is still predicted. `facts` are shares of all pairs of an image
        and a true class of it: `right_predictions`, `added_umasks`, `added_imasks`, and `constant_maps`, which mask
        nothing.

    Raises:
        ModelNotTrainable: The explainer is not right on this model.
        TrainingDiverged: Logits of the model are NaN or infinite.

    Source: Li et al. 2021, section 3.2 for one class per image, section 3.3 for several.
    """
    images, classes = batch.truth.nonzero(as_tuple=True)
    pairs = len(images)
    right = network.frozen.predicts(network.predicted(batch.pixels)[images], classes)
    images, classes = images[right], classes[right]
    if len(images):
        relevance = _relevance(contract, network, batch, images, classes)
        constant = is_constant(relevance.flatten(1), torch.ones_like(relevance.flatten(1), dtype=torch.bool))
        relevance, images, classes = relevance[~constant], images[~constant], classes[~constant]
        constant_maps = int(constant.sum())
    else:
        relevance, constant_maps = batch.pixels[:0, 0], 0
    umask, imask = threshold_masks(relevance, (contract.umask_threshold, contract.imask_threshold))
    umasks = (
        _still_predicted(contract, network, batch, umask.umask, images, classes)
        if network.scores == "softmax"
        else (batch.pixels[:0], images[:0])
    )
    imasks = _still_predicted(contract, network, batch, imask.imask, images, classes)
    return MaskedImages(
        torch.cat([umasks[0], imasks[0]]),
        torch.cat([umasks[1], imasks[1]]),
        {
            "right_predictions": float(right.sum()) / pairs,
            "added_umasks": len(umasks[1]) / pairs,
            "added_imasks": len(imasks[1]) / pairs,
            "constant_maps": constant_maps / pairs,
        },
    )


def _relevance(
    contract: Edda, network: Network, batch: TrainingBatch, images: Int[Tensor, " pair"], classes: Int[Tensor, " pair"]
) -> Float[Tensor, "pair height width"]:
    """Relevance of each pixel for a class of an image."""
    streams = batch.streams.take(images.tolist())
    if contract.explainer.is_control:
        # RandExp: one value per pixel, uniform in [0, 1]; the sum of normal values over channels would not be
        return streams.uniform(
            tuple(batch.pixels.shape[2:]), "edda/random_map", classes.tolist(), device=network.device
        ).double()
    maps = network.maps(contract.explainer, batch.pixels[images], classes, streams)
    return ranking_relevance(maps, contract.order, contract.reduce)


def _still_predicted(
    contract: Edda,
    network: Network,
    batch: TrainingBatch,
    kept: Bool[Tensor, "pair 1 height width"],
    images: Int[Tensor, " pair"],
    classes: Int[Tensor, " pair"],
) -> tuple[Float[Tensor, "copy channel height width"], Int[Tensor, " copy"]]:
    """Images with all pixels masked but those to keep, if their class is still predicted, and which images they are."""
    fill = network.start.mean if contract.color == "mean" else torch.zeros_like(network.start.mean)
    masked = torch.where(kept, batch.pixels[images], fill)
    same = torch.cat(
        [
            network.frozen.predicts(network.predicted(part), own)
            for part, own in zip(masked.split(len(batch)), classes.split(len(batch)), strict=True)
        ]
    )
    return masked[same], images[same]
