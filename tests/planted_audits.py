"""Audits of planted worlds, one for each world, that all questions of `tests/sense` read."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import planted_worlds
from auditcore.auditing import audit
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import AuditReport, Result
from auditcore.contracts.request import AuditRequest
from auditcore.explainers.registry import EXPLAINERS as METHODS_BY_CONTRACT
from auditcore.explainers.registry import explain
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams
from once_a_run import once_a_run
from planted_worlds import GRID, PATCH, SIDE, Sample

IMAGES = 24

METHODS: tuple[dict[str, Any], ...] = (
    {"kind": "gradient"},
    {"kind": "saliency"},
    {"kind": "smoothgrad", "samples": 16},
    {"kind": "guided_backpropagation"},
    {"kind": "input_x_gradient"},
    {"kind": "integrated_gradients", "steps": 16, "baseline": "mean"},
    {"kind": "gradient_shap", "samples": 16, "baseline": "mean", "std": 0.05},
    {"kind": "deep_lift", "baseline": "mean"},
    {"kind": "grad_cam"},
    {"kind": "guided_grad_cam"},
    {"kind": "iba"},
    {"kind": "lrp_epsilon_plus_flat"},
    {"kind": "lrp_epsilon_gamma_box"},
    {"kind": "lrp_epsilon_alpha2_beta1_flat"},
    {"kind": "occlusion", "window": PATCH, "stride": planted_worlds.CELL},
    {"kind": "ablation", "grid": GRID},
    {"kind": "rise", "masks": 400, "cells": 5},
    {"kind": "kernel_shap", "segments": "cells", "count": 64, "samples": 400},
)
"""Methods that are made to find what decides."""

CHECKS: tuple[dict[str, Any], ...] = (
    {"kind": "deletion", "grid": GRID},
    {"kind": "edda", "keep": [0.15], "color": "mean"},
    {"kind": "pixel_flipping", "fill": "mean"},
    {"kind": "insertion_deletion", "pixels_per_step": 80},
    {"kind": "road", "shares": [0.05, 0.1, 0.2, 0.4]},
    {"kind": "localization"},
    {"kind": "localization", "name": "localization_by_magnitude", "reduce": "max_abs"},
    {"kind": "complexity"},
)


EXPLAINERS = (*(method["kind"] for method in METHODS), "perfect", "wrong", "center", "random")
"""All maps of a report: those of methods, those uploaded, and the control."""


@dataclass(frozen=True)
class Question:
    """A metric that can tell good maps from bad ones.

    Attributes:
        resolution: By how much a map without knowledge of the patch's parts may be behind one with.
        noise: By how much maps that know nothing may differ by chance.
    """

    check: str
    metric: str
    variant: str | None = None
    higher_is_better: bool = True
    resolution: float = 0.02
    noise: float = 0.05

    @property
    def apart(self) -> float:
        """By how much two means must differ to say which map is better."""
        return max(self.resolution, self.noise)

    def __str__(self) -> str:
        return self.metric


QUESTIONS = (
    Question("deletion", "inter_model_deletion", noise=0.1),
    Question("deletion", "srg", noise=0.15),
    Question("edda", "sufficiency", "top_15"),
    Question("edda", "comprehensiveness", "top_15"),
    Question("pixel_flipping", "pixel_flipping_aoc", resolution=0.1),
    Question("insertion_deletion", "deletion_zero", higher_is_better=False, noise=0.1),
    Question("insertion_deletion", "insertion_zero", noise=0.1),
    Question("road", "road_gain", resolution=0.15),
    Question("localization", "energy_pointing_game"),
    Question("localization", "effective_heat_ratio"),
    Question("localization", "wsol_iou"),
    Question("localization", "wsol_iou_largest_region"),
)


SENSITIVITY_MAPS = ("gradient", "smoothgrad", "guided_backpropagation", "guided_grad_cam")
"""Methods whose sign says direction, not evidence; localization asks of them where the magnitude lies."""


def score(found: AuditReport, question: Question, explainer: str) -> Result:
    """What a report says of an explainer to a question."""
    check = question.check
    if check == "localization" and explainer in SENSITIVITY_MAPS:
        check = "localization_by_magnitude"
    return result(found, check, question.metric, explainer, question.variant)


def uploaded(sample: Sample) -> Mapping[str, Tensor]:
    """Maps that are as good and as bad as maps can be, (N,S,S).

    `perfect` is 1 on the patch that decides, `wrong` is 1 on the patch that does not count, `center` is the same blob
    for every image. A little noise makes an order of the rest, so that no score rests on how ties are broken.
    """
    generator = torch.Generator().manual_seed(5)
    noise = 1e-3 * torch.rand(sample.truth.shape, generator=generator)
    away = torch.linspace(-1, 1, SIDE) ** 2
    blob = torch.exp(-4 * (away[:, None] + away[None, :]))
    return {
        "perfect": sample.truth + noise,
        "wrong": sample.second + noise,
        "center": blob.expand_as(noise) + noise,
    }


@functools.cache
def images(name: str) -> Sample:
    """The audited images of a world; all have a patch that decides."""
    return planted_worlds.draw(name, IMAGES, seed=77, audited=True)


@functools.cache
def report(name: str) -> AuditReport:
    """The audit of a world: every method, the uploaded maps, and the random control."""

    def audited() -> str:
        plan, files = plan_of_uploaded(name, ("perfect", "wrong", "center"), CHECKS)
        plan["explainers"] = [*METHODS, *plan["explainers"], {"kind": "random"}]
        return run(name, plan, maps=files).model_dump_json()

    return AuditReport.model_validate_json(once_a_run(f"the world {name}", audited))


def plan_of_uploaded(
    name: str, labels: Sequence[str], checks: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """A plan that audits uploaded maps, with their files."""
    found = uploaded(images(name))
    files = {label: planted_worlds.map_file(found[label]) for label in labels}
    explainers = [{"kind": "precomputed", "name": label, "maps": sha256(data)} for label, data in files.items()]
    return {"seed": 3, "explainers": explainers, "checks": list(checks)}, tuple(files.values())


@functools.cache
def maps(name: str) -> Mapping[str, Tensor]:
    """Method -> its maps, channels summed, (N,S,S); without methods that need statistics of a whole audit."""
    sample = images(name)
    classifier = Classifier(planted_worlds.trained(name), preprocessing=planted_worlds.PREPROCESSING)
    plan = AuditPlan.model_validate({"explainers": METHODS, "checks": [{"kind": "complexity"}]})
    streams = Streams(3, tuple(one.digest for one in planted_worlds.encoded(sample)))
    return {
        one.kind: explain(classifier, one, sample.pixels, sample.labels, streams).maps.sum(dim=1)
        for one in plan.explainers
        if METHODS_BY_CONTRACT[type(one)].measure_shared is None
    }


def run(name: str, plan: Mapping[str, Any], *, maps: tuple[bytes, ...] = (), **request: Any) -> AuditReport:
    """One audit of a world's network on its images."""
    with tempfile.TemporaryDirectory() as folder:
        asked = AuditRequest.model_validate(
            {
                "model": planted_worlds.reference(name, Path(folder)).model_dump(),
                "images": {"kind": "batch", "digest": f"sha256:{'0' * 64}"},
                "plan": plan,
                **request,
            }
        )
        return audit(
            asked,
            images=planted_worlds.encoded(images(name)),
            access=planted_worlds.access(Path(folder)),
            maps={sha256(data): data for data in maps},
            micro_batch=64,
        )


def result(found: AuditReport, check: str, metric: str, explainer: str | None, variant: str | None = None) -> Result:
    """One entry of a report."""
    (only,) = (
        one
        for one in (*found.results, *found.controls)
        if (one.check, one.metric, one.explainer, one.variant) == (check, metric, explainer, variant)
    )
    return only
