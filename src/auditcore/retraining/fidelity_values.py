"""F-Fidelity of each image: what the fine-tuned model says without random parts of an explanation and of the rest."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from auditcore.checks.micro_batches import MicroBatches
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.ranking_orders import RankingOrder
from auditcore.contracts.retraining.f_fidelity import FFidelityPlan
from auditcore.metrics.f_fidelity import removal_count, removed_at_random
from auditcore.metrics.removal_curves import imputed_count
from auditcore.metrics.remove_and_retrain import without_pixels
from auditcore.random_numbers.streams import KeptDraws, Streams
from auditcore.retraining.fine_tuned_model import FineTuned
from auditcore.retraining.pixel_ranks import IMAGES_AT_ONCE, PixelRanks, pixel_ranks
from auditcore.retraining.training_faults import blaming_explainer

PLUS, MINUS = 0, 1
"""The explanation loses pixels; all others do."""


class Drops(NamedTuple):
    """What the prediction loses, by size of the explanation; NaN where no pixel would be removed, or no order is known.

    Attributes:
        accuracy: Whether the target is predicted on the whole image, less the share of copies on which it is.
        probability: The target's probability on the whole image, less its mean over the copies.
        constant: Images whose map gives no order.
    """

    accuracy: Float[Tensor, "image sign size"]
    probability: Float[Tensor, "image sign size"]
    constant: Bool[Tensor, " image"]


def fidelity_drops(
    tuned: FineTuned,
    plan: FFidelityPlan,
    explainer: Explainer,
    *,
    colors: MutableMapping[str, Tensor],
    tick: Callable[[], None],
) -> dict[RankingOrder, Drops]:
    """The drops of every image by one explainer, in each order of its maps.

    Args:
        tuned: Model and images.
        plan: The plan.
        explainer: It runs on the model.
        colors: As in `each_relevance`.
        tick: Called after each batch; may raise AuditCancelled.

    Source: Zheng et al. 2025, definitions of FFid+ and FFid-.
    """
    with blaming_explainer(explainer):
        ranks = pixel_ranks(
            tuned.explained,
            explainer,
            tuned.images,
            tuned.targets,
            orders=plan.orders(explainer),
            reduce=plan.reduce,
            seed=plan.seed,
            tick=tick,
            colors=colors,
        )
    return {order: _drops(tuned, plan, found, tick) for order, found in ranks.items()}


def _drops(tuned: FineTuned, plan: FFidelityPlan, ranks: PixelRanks, tick: Callable[[], None]) -> Drops:
    images, pixels = ranks.rank.shape
    device = tuned.measured.device
    tops, counts = _counts(plan, pixels)
    shape = (images, 2, len(plan.sizes), plan.samples)
    # image by image, so that copies that follow each other share their random numbers
    wanted = (counts > 0).nonzero().repeat_interleave(plan.samples, dim=0)
    per_image = len(wanted)
    accuracy, probability = torch.zeros(2, *shape[:3], dtype=torch.float64)
    kept = KeptDraws()
    whole = tuned.measured.probabilities(tuned.logits)
    batches = MicroBatches(IMAGES_AT_ONCE)
    told = torch.empty(images * per_image, 2)

    def work(part: slice) -> None:
        copies = torch.arange(images * per_image)[part]
        own, place = copies // per_image, copies % per_image
        sign, size = wanted[place].unbind(dim=1)
        top = ranks.rank[own] < tops[size, None]
        candidates = torch.where(sign[:, None] == PLUS, top, ~top)
        rows = own.tolist()
        streams = Streams(plan.seed, tuple(tuned.images.digests[row] for row in rows), kept=kept)
        lottery = streams.uniform((pixels,), "f_fidelity/masks", (place % plan.samples).tolist())
        removed = removed_at_random(candidates, lottery, counts[sign, size]).to(device)
        changed = without_pixels(tuned.images.pixels(rows).to(device), removed, tuned.measured.mean)
        logits, targets = tuned.measured.logits(changed), tuned.targets[own].to(device)
        told[part, 0] = tuned.measured.predicts(logits, targets).float().cpu()
        told[part, 1] = tuned.measured.probabilities(logits).gather(1, targets[:, None])[:, 0].cpu()

    batches.each(len(told), work, tick=tick)
    means = told.double().view(images, -1, plan.samples, 2).mean(dim=2)
    sign, size = (counts > 0).nonzero().unbind(dim=1)
    accuracy[:, sign, size], probability[:, sign, size] = means.unbind(dim=2)
    right = tuned.measured.predicts(tuned.logits, tuned.targets).double()
    sure = whole.gather(1, tuned.targets[:, None])[:, 0].double()
    undefined = ranks.constant[:, None, None] | (counts == 0)[None]
    return Drops(
        (right[:, None, None] - accuracy).masked_fill(undefined, torch.nan),
        (sure[:, None, None] - probability).masked_fill(undefined, torch.nan),
        ranks.constant,
    )


def _counts(plan: FFidelityPlan, pixels: int) -> tuple[Int[Tensor, " size"], Int[Tensor, "sign size"]]:
    """Pixels of the explanation by size; and pixels that a copy loses by sign and size."""
    tops = [imputed_count(size, pixels) for size in plan.sizes]
    plus = [removal_count(top, plan.alpha_plus, plan.beta, pixels) for top in tops]
    minus = [removal_count(pixels - top, plan.alpha_minus, plan.beta, pixels) for top in tops]
    return torch.tensor(tops), torch.tensor([plus, minus])
