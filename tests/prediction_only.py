"""What acceptance tests of served models share: a plan of all that needs only predictions, and a comparison."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import digits
from auditcore.auditing import audit
from auditcore.contracts.access import AccessRules
from auditcore.contracts.images import Box
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.images.encoded import EncodedImage
from once_a_run import once_a_run

TOLERANCE = 1e-3
"""Of the acceptance: a model and the same model behind a server give the same scores within this."""

TOP_K = 60
ONE_POSITION = 1 / TOP_K / 4
"""What one of the k positions counts at an end of three levels, a quarter of the area. Servers round otherwise than
torch does, and two positions of a rotated map that are nearly equal at the cut may then change places."""

SWAPPED = {"top_k_score": ONE_POSITION, "s_top_k": 2 * ONE_POSITION}
"""The ratio divides by the area under the probability, which is above 0.5 here."""

EXPLAINERS: list[dict[str, Any]] = [
    {"kind": "occlusion", "window": 8, "stride": 4},
    {"kind": "ablation", "grid": 4},
    {"kind": "rise", "masks": 30, "cells": 4},
    {"kind": "kernel_shap", "segments": "cells", "count": 9, "samples": 60},
]
CHECKS: list[dict[str, Any]] = [
    {
        "kind": "sweep",
        "augmentations": [
            {"kind": "brightness", "interval": "auto"},
            {"kind": "rotate", "interval": [-15, 15]},
            {"kind": "translate", "interval": [-0.1, 0.1]},
        ],
        "levels": 3,
        "top_k": TOP_K,
    },
    {
        "kind": "ssim_sweep",
        "changes": [{"augmentation": {"kind": "rotate"}, "values": [-8, 8]}],
        "tolerance": 0.3,
    },
    {"kind": "deletion", "grid": 4, "repeats": 2},
    {"kind": "edda"},
    {"kind": "pixel_flipping", "pixels_per_step": 64},
    {"kind": "insertion_deletion", "pixels_per_step": 256},
    {"kind": "road", "shares": [0.3, 0.6]},
    {"kind": "sensitivity", "draws": 2},
    {"kind": "infidelity", "draws": 3, "std": 0.1},
    {"kind": "localization"},
    {"kind": "complexity"},
]
GRADIENT: dict[str, Any] = {"kind": "gradient"}


def images(count: int = 3) -> list[EncodedImage]:
    """Digits with a box around the middle."""
    box = (Box(x0=8.0, y0=4.0, x1=24.0, y1=28.0),)
    return [EncodedImage(one.index, one.name, one.data, one.label, box) for one in digits.encoded(count)]


def request(
    model: Any,
    *,
    explainers: list[dict[str, Any]] | None = None,
    checks: list[dict[str, Any]] | None = None,
    **plan: Any,
) -> AuditRequest:
    """An audit of a model."""
    return AuditRequest.model_validate(
        {
            "model": model if isinstance(model, dict) else model.model_dump(mode="json"),
            "images": {"kind": "batch", "digest": "sha256:" + "0" * 64},
            "plan": {"explainers": explainers or EXPLAINERS, "checks": checks or CHECKS, **plan},
        }
    )


def audited(model: Any, access: AccessRules, **options: Any) -> AuditReport:
    """The report of such an audit."""
    given = options.pop("images", None) or images()
    return audit(request(model, **options), images=given, access=access, micro_batch=8)


def white_box(folder: Path, **options: Any) -> AuditReport:
    """The same audit of the digits network itself."""

    def by_itself() -> str:
        return audited(
            digits.reference(digits.write_weights(folder)), digits.access(folder), **options
        ).model_dump_json()

    return AuditReport.model_validate_json(once_a_run(f"the digits, {options!r}", by_itself))


def differences(served: AuditReport, itself: AuditReport) -> tuple[int, dict[str, float]]:
    """How many values were compared, and the largest difference of each metric that exceeds the tolerance.

    A value is compared absolutely where it is a share or a probability, and relative to its size above 1. What is
    undefined must be so in both. A score of the top k moves by whole positions, so it may move by one.
    """
    expected = {(one.check, one.explainer, one.metric, one.variant): one for one in (*itself.results, *itself.controls)}
    compared, worst = 0, dict[str, float]()
    for one in (*served.results, *served.controls):
        other = expected[one.check, one.explainer, one.metric, one.variant]
        for mine, theirs in zip(one.per_image, other.per_image, strict=True):
            if mine is None or theirs is None:
                difference = 0.0 if mine is theirs else math.inf
            else:
                difference = abs(mine - theirs) / max(1.0, abs(theirs))
                compared += 1
            if difference > TOLERANCE + SWAPPED.get(one.metric, 0.0):
                name = f"{one.check}/{one.explainer}/{one.metric}/{one.variant}"
                worst[name] = max(difference, worst.get(name, 0.0))
    return compared, worst
