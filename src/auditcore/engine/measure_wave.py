"""The measure wave on one group of images: contributions to quantities of the whole audit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from auditcore.checks.image_group import ImageGroup
from auditcore.checks.registry import CHECKS
from auditcore.contracts.capabilities import check_incompatibility
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import SharedSample
from auditcore.costs.passes import mapped_first
from auditcore.devices.transfer import numbers_on
from auditcore.explainers.registry import EXPLAINERS


def measure_group(plan: AuditPlan, group: ImageGroup) -> list[SharedSample]:
    """What the images of a group contribute to quantities of the whole audit, for every check and explainer."""
    samples: list[SharedSample] = []
    # together, so that they share passes whatever each check runs on
    group.explain_originals([explainer for explainer in mapped_first(plan) if explainer in group.able])
    for check in plan.checks:
        measure = CHECKS[type(check)].measure_shared
        if measure is not None and check_incompatibility(check, group.classifier.capabilities) is None:
            samples += measure(check, group.under(check))
    # a layer's statistics belong to images, however many targets each has
    first = [row for row, index in enumerate(group.indices) if index not in group.indices[:row]]
    for explainer in group.able:
        measure_layer = EXPLAINERS[type(explainer)].measure_shared
        if measure_layer is not None:
            values = _layer_rows(group, explainer, first, measure_layer)
            samples.append(SharedSample.of(explainer.shared_key, values))
    return samples


def _layer_rows(
    group: ImageGroup, explainer: Explainer, rows: Sequence[int], measure_layer: Callable[..., Tensor]
) -> list[list[float]]:
    """What an explainer measures of its layer on some rows of a group."""
    measured: list[Tensor] = []

    def work(part: slice) -> None:
        own = rows[part]
        pixels = group.pixels[numbers_on(own, group.pixels.device, torch.long)]
        halves = [group.indices[row] % 2 for row in own]
        measured.append(measure_layer(group.batch(pixels, own, "original"), explainer, halves))

    group.each(len(rows), work)
    return [values for part in measured for values in part.cpu().tolist()]
