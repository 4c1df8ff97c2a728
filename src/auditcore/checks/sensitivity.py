"""Sensitivity: how far maps move when a little uniform noise is added to the image.

Source: Yeh et al. 2019; Erdem 2021. Noise as in captum, in normalized space.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.checks.image_group import ImageGroup
from auditcore.checks.measuring import measurement
from auditcore.contracts.checks import SensitivityCheck
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.shards import Measurement
from auditcore.devices.transfer import numbers_on
from auditcore.explainers.registry import explain_together
from auditcore.metrics.sensitivity import max_sensitivity, relative_distance

ZERO_MAP = "the map is zero everywhere or not finite, so no distance is relative to it"
NOT_REPEATABLE = "the map is zero everywhere, or one of both maps is not finite"
NOISY_MAP = "the map of a noisy copy is not finite"


def compute(check: SensitivityCheck, group: ImageGroup, _shared: Mapping[str, tuple[float, ...]]) -> list[Measurement]:
    """Largest relative distance of every explainer on one group; all of them see the same noise."""
    found: list[Measurement] = []
    for explainer, distances in _distances(check, group).items():
        maps = group.original(explainer).maps.flatten(1)
        usable = maps.isfinite().all(dim=1) & (maps != 0).any(dim=1)
        found.append(
            measurement(
                check,
                "max_sensitivity",
                max_sensitivity(distances).cpu(),
                indices=group.indices,
                explainer=explainer.label,
                undefined={i: NOISY_MAP if fine else ZERO_MAP for i, fine in enumerate(usable.tolist())},
                control=explainer in group.controls,
            )
        )
    return found + [_repeatability(check, group, explainer) for explainer in group.repeatable]


def _repeatability(check: SensitivityCheck, group: ImageGroup, explainer: Explainer) -> Measurement:
    """Relative distance between the maps of a stochastic explainer and those of another draw, image unchanged."""
    distance = relative_distance(group.original(explainer).maps, group.repeat(explainer).maps)
    return measurement(
        check,
        "repeatability_distance",
        distance.cpu(),
        indices=group.indices,
        explainer=explainer.label,
        undefined=NOT_REPEATABLE,
    )


def _distances(check: SensitivityCheck, group: ImageGroup) -> dict[Explainer, Float[Tensor, "image draw"]]:
    """Relative distance of the map of every noisy copy; the noise is drawn once for all explainers."""
    device = group.pixels.device
    size = (len(group), check.draws)
    distances = {explainer: torch.empty(size, dtype=torch.float64, device=device) for explainer in group.explained}
    owners = [image for image in range(len(group)) for _ in range(check.draws)]
    draws = list(range(check.draws)) * len(group)
    owner, draw = numbers_on(owners, device, torch.long), numbers_on(draws, device, torch.long)

    def work(part: slice) -> None:
        noise = group.streams.take(owners[part]).uniform(
            tuple(group.pixels.shape[1:]), f"{check.kind}/noise", draws[part], device=device
        )
        # not clipped: the noise is one of normalized values, and black must be able to become darker
        copies = group.pixels[owner[part]] + check.radius * (2 * noise - 1) * group.classifier.std
        views = [f"{check.label}/draw={number}" for number in draws[part]]
        attributions = explain_together(group.batch(copies, owners[part], views, noise=check.noise), group.explained)
        for explainer, found in distances.items():
            original = group.original(explainer).maps[owner[part]]
            found[owner[part], draw[part]] = relative_distance(original, attributions[explainer].maps)

    group.each(len(owner), work)
    return distances
