"""Infidelity: maps as linear accounts of what normal noise does to the target logit.

Source: Yeh et al. 2019; Erdem 2021 for the noise.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from auditcore.checks.image_group import ImageGroup
from auditcore.checks.measuring import measurement
from auditcore.contracts.checks import InfidelityCheck
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.shards import Measurement
from auditcore.devices.transfer import numbers_on
from auditcore.metrics.infidelity import account_of_noise, infidelity

NOT_FINITE = "the map is not finite"
NO_ACCOUNT = "the map is zero or not finite, so no factor suits it"


def compute(check: InfidelityCheck, group: ImageGroup, _shared: Mapping[str, tuple[float, ...]]) -> list[Measurement]:
    """Infidelity of every explainer on one group.

    The passes, `draws` an image, do not depend on the map, so all explainers share them. Draws are independent:
    each perturbs the original image separately.
    """
    accounts, changes = _draws(check, group)
    return [
        measurement(
            check,
            "infidelity",
            infidelity(told, changes, normalize=check.normalize).cpu(),
            indices=group.indices,
            explainer=explainer.label,
            undefined=NO_ACCOUNT if check.normalize else NOT_FINITE,
            control=explainer in group.controls,
        )
        for explainer, told in accounts.items()
    ]


def _draws(
    check: InfidelityCheck, group: ImageGroup
) -> tuple[dict[Explainer, Float[Tensor, "image draw"]], Float[Tensor, "image draw"]]:
    """Every map's account of every draw of noise, and what the noise really did to the target logit."""
    device = group.pixels.device
    whole = group.target_logits.double()
    changes = torch.empty(len(group), check.draws, dtype=torch.float64, device=device)
    accounts = {explainer: torch.empty_like(changes) for explainer in group.explained}
    owners = [image for image in range(len(group)) for _ in range(check.draws)]
    draws = list(range(check.draws)) * len(group)
    owner, draw = numbers_on(owners, device, torch.long), numbers_on(draws, device, torch.long)

    def work(part: slice) -> None:
        images, numbers = owner[part], draw[part]
        noise = check.std * group.streams.take(owners[part]).normal(
            tuple(group.pixels.shape[1:]), f"{check.kind}/noise", draws[part], device=device
        )
        copies = group.pixels[images] - noise * group.classifier.std
        changes[images, numbers] = whole[images] - _target_logits(group, copies, group.targets[images])
        for explainer, told in accounts.items():
            told[images, numbers] = account_of_noise(group.original(explainer).maps[images], noise)

    group.each(len(owner), work)
    return accounts, changes


def _target_logits(
    group: ImageGroup, pixels: Float[Tensor, "copy channel height width"], targets: Int[Tensor, " copy"]
) -> Float[Tensor, " copy"]:
    return group.classifier.logits(pixels).gather(1, targets[:, None])[:, 0].double()
