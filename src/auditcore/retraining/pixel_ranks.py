"""Maps of labeled images, and the order of their pixels."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from auditcore.checks.micro_batches import MicroBatches
from auditcore.contracts.checks import Reduction
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.ranking_orders import RankingOrder
from auditcore.contracts.speed import Speed
from auditcore.devices.arithmetic import arithmetic
from auditcore.devices.transfer import current
from auditcore.explainers.attribution import Batch
from auditcore.explainers.registry import explain_together
from auditcore.metrics.constancy import is_constant
from auditcore.metrics.ranking import rank_descending
from auditcore.metrics.reduction import ranking_relevance
from auditcore.metrics.removal_curves import removal_rank
from auditcore.metrics.rounded_relevance import resolved_relevance
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams
from auditcore.training.labeled_images import LabeledImages

IMAGES_AT_ONCE = 64
"""Images that are decoded, predicted or explained together; fewer where memory runs out."""

CONSTANT_MAP = "all pixels are equally relevant or the map is not finite, so the map gives no order"


class PixelRanks(NamedTuple):
    """The order of the pixels of images, on the CPU.

    Attributes:
        rank: Place of each pixel, 0 for the most relevant; pixels that differ by rounding only are ordered by chance.
        constant: Images whose map gives no order, so that chance decides about all pixels.
    """

    rank: Int[Tensor, "image pixel"]
    constant: Bool[Tensor, " image"]


def predicted_classes(classifier: Classifier, images: LabeledImages, tick: Callable[[], None]) -> Int[Tensor, " image"]:
    """The most probable class of each image, on the CPU."""
    found = torch.empty(len(images), dtype=torch.long)

    def work(part: slice) -> None:
        pixels = images.pixels(range(len(images))[part]).to(classifier.device)
        found[part] = classifier.logits(pixels).argmax(dim=1).cpu()

    MicroBatches(IMAGES_AT_ONCE).each(len(images), work, tick=tick)
    return found


def labels_of(images: LabeledImages) -> Int[Tensor, " image"]:
    """The label of each image of a model with one class per image."""
    return images.truth.int().argmax(dim=1)


def each_relevance(
    classifier: Classifier,
    explainer: Explainer,
    images: LabeledImages,
    targets: Int[Tensor, " image"],
    use: Callable[[RankingOrder, slice, Tensor], None],
    *,
    orders: Sequence[RankingOrder],
    reduce: Reduction,
    seed: int,
    tick: Callable[[], None],
    colors: MutableMapping[str, Tensor] | None = None,
) -> None:
    """Explain images batch by batch and hand over the relevance of their pixels.

    Args:
        classifier: The model that is explained.
        explainer: The method; it must be applicable.
        images: The images.
        targets: Class to explain, for each image.
        use: Gets each order, the positions of the images and the relevance of their pixels, (N,H,W) in float64 on the
            CPU. Where memory runs out, positions may come again.
        orders: What the relevance of a pixel is.
        reduce: How channels are joined where the order is signed.
        seed: Of the random streams of the images.
        tick: Called after each batch; may raise AuditCancelled.
        colors: Logits of images of one color, shared by calls about parts of the same images; new ones are added.
    """
    known: dict[str, Tensor] = dict(colors or {})
    batches = MicroBatches(IMAGES_AT_ONCE)

    def work(part: slice) -> None:
        rows = range(len(images))[part]
        batch = Batch(
            classifier,
            images.pixels(rows).to(classifier.device),
            targets[part].to(classifier.device),
            Streams(seed, tuple(images.digests[row] for row in rows)),
            micro_batch=batches.size,
            diagnostics=False,
            colors=known,
        )
        maps = explain_together(batch, (explainer,))[explainer].maps
        for order in orders:
            use(order, part, ranking_relevance(maps, order, reduce).cpu())

    with arithmetic(Speed(), classifier.device), current(classifier.device):
        classifier.guard.forget()
        batches.each(len(images), work, tick=tick)
        classifier.guard.require_finite()
    if colors is not None:
        colors.update(known)


def pixel_ranks(
    classifier: Classifier,
    explainer: Explainer,
    images: LabeledImages,
    targets: Int[Tensor, " image"],
    *,
    orders: Sequence[RankingOrder],
    reduce: Reduction,
    seed: int,
    tick: Callable[[], None],
    colors: MutableMapping[str, Tensor] | None = None,
) -> dict[RankingOrder, PixelRanks]:
    """Order the pixels of images by their maps; ties are broken by the random streams of the images.

    Args: As of `each_relevance`.
    """
    _, height, width = classifier.shape
    pixels = height * width
    found = {
        order: PixelRanks(
            torch.empty(len(images), pixels, dtype=torch.int32), torch.empty(len(images), dtype=torch.bool)
        )
        for order in orders
    }

    def rank(order: RankingOrder, part: slice, relevance: Tensor) -> None:
        flat = relevance.flatten(1)
        constant = is_constant(flat, torch.ones_like(flat, dtype=torch.bool))
        ties = Streams(seed, images.digests[part]).uniform((pixels,), "retraining/ties")
        # a map without an order is all ties
        resolved = resolved_relevance(flat.masked_fill(constant[:, None], 0))
        found[order].rank[part] = removal_rank(rank_descending(resolved, ties)).int()
        found[order].constant[part] = constant

    each_relevance(
        classifier,
        explainer,
        images,
        targets,
        rank,
        orders=orders,
        reduce=reduce,
        seed=seed,
        tick=tick,
        colors=colors,
    )
    return found
