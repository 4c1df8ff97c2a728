"""What the faster modes save and what they cost in accuracy: `python tests/benchmarks/modes.py`.

Adaptive curves: the demo model audits real photos exactly and adaptively; passes are those of the ledger, errors those
of every area of every image. bf16 and compilation: throughput relative to float32, variants interleaved in one run,
together with the deviation of logits and gradients. Prints tables and writes JSON.
"""

from __future__ import annotations

import argparse
import base64
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from auditcore import AuditReport, AuditRequest, audit
from auditcore.contracts.access import AccessRules
from auditcore.contracts.checks import Check, DeletionCheck, InsertionDeletionCheck
from auditcore.contracts.explainers import (
    Explainer,
    GradCam,
    Gradient,
    IntegratedGradients,
    LrpEpsilonPlusFlat,
    Random,
)
from auditcore.contracts.images import InlineImage, InlineImages
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.models import DemoModel, TorchvisionModel
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import Result
from auditcore.contracts.speed import Speed
from auditcore.engine.environment import describe_environment
from auditcore.explainers.differentiation import input_gradient
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from auditcore.models.loading import load_classifier
from auditcore_service.cli.demo import PHOTOS, photo_path

EXPLAINERS: tuple[Explainer, ...] = (
    Gradient(),
    IntegratedGradients(steps=20),
    GradCam(),
    LrpEpsilonPlusFlat(),
    Random(),
)
CURVES: tuple[tuple[DeletionCheck | InsertionDeletionCheck, frozenset[str]], ...] = (
    (DeletionCheck(), frozenset({"lerf_auc", "morf_auc", "rao_auc"})),
    (InsertionDeletionCheck(games=("deletion_zero", "insertion_blur")), frozenset({"deletion_zero", "insertion_blur"})),
)
MODES = {
    "bf16": Speed(precision="bf16"),
    "compile": Speed(compile=True),
    "compile + bf16": Speed(precision="bf16", compile=True),
}


def run(photos: list[EncodedImage], check: Check, device: str) -> AuditReport:
    """One audit of the demo model."""
    request = AuditRequest(
        model=DemoModel(),
        images=InlineImages(images=tuple(InlineImage(data=base64.b64encode(photo.data)) for photo in photos)),
        plan=AuditPlan(explainers=EXPLAINERS, checks=(check,)),
    )
    return audit(request, images=photos, device=device)


def curve_rows(photos: list[EncodedImage], tolerance: float, device: str) -> list[dict[str, object]]:
    """Each check exactly and adaptively: passes, and errors of all areas."""
    rows: list[dict[str, object]] = []
    for check, metrics in CURVES:
        exact = run(photos, check, device)
        fast = run(photos, check.model_copy(update={"curve": "adaptive", "tolerance": tolerance}), device)
        errors = area_errors(exact, fast, metrics)
        stated = [] if fast.deviation is None else [one for one in fast.deviation.stated if one.metric in metrics]
        paid = fast.cost.checks[check.label].forward_images
        rows.append(
            {
                "check": check.label,
                "areas": len(errors),
                "passes_exact": exact.cost.checks[check.label].forward_images,
                "passes_adaptive": paid,
                "passes_of_the_sample": fast.cost.checks["deviation"].forward_images,
                "saved": exact.cost.checks[check.label].forward_images / paid,
                "max_error": max(errors),
                "mean_error": sum(errors) / len(errors),
                "above_tolerance": sum(error > tolerance for error in errors),
                "stated_error": max(one.estimated for one in stated),
                "stated_bound": max(one.bound for one in stated),
            }
        )
    return rows


def area_errors(exact: AuditReport, fast: AuditReport, metrics: frozenset[str]) -> list[float]:
    """Absolute difference of every area of every image."""

    def areas(report: AuditReport) -> dict[tuple[str | None, str], Result]:
        rows = (*report.results, *report.controls)
        return {(row.explainer, row.metric): row for row in rows if row.metric in metrics}

    found = areas(fast)
    return [
        abs(one - other)
        for key, row in areas(exact).items()
        for one, other in zip(row.per_image, found[key].per_image, strict=True)
        if one is not None and other is not None
    ]


def speed_rows(
    reference: ModelReference, modes: list[str], size: int, rounds: int, device: str
) -> list[dict[str, object]]:
    """Throughput of the modes relative to float32, forward only and with gradient."""
    exact = load_classifier(reference, access=AccessRules(), device=device)
    pixels = torch.rand(size, *exact.shape, generator=torch.Generator().manual_seed(0)).to(device)
    variants = {"fp32": exact, **{name: exact.at_speed(MODES[name]) for name in modes}}
    warm_up = {name: seconds_of(lambda c=c: work(c, pixels), device) for name, c in variants.items()}
    for classifier in variants.values():
        work(classifier, pixels)
    best: dict[tuple[str, str], float] = {}
    for _ in range(rounds):
        for name, classifier in variants.items():
            for kind, pass_ in (("forward", forward), ("gradient", gradient)):
                took = seconds_of(lambda c=classifier, p=pass_: p(c, pixels), device)
                best[name, kind] = min(took, best.get((name, kind), took))
    logits, slopes = forward(exact, pixels), gradient(exact, pixels)
    return [
        {
            "model": reference.kind if isinstance(reference, DemoModel) else getattr(reference, "name", ""),
            "mode": name,
            "warm_up_s": warm_up[name],
            "forward_per_s": size / best[name, "forward"],
            "gradient_per_s": size / best[name, "gradient"],
            "forward_ratio": best["fp32", "forward"] / best[name, "forward"],
            "gradient_ratio": best["fp32", "gradient"] / best[name, "gradient"],
            "logit_deviation": float((forward(classifier, pixels) - logits).abs().amax() / logits.abs().amax()),
            "gradient_deviation": float((gradient(classifier, pixels) - slopes).norm() / slopes.norm()),
            "failure": classifier.compilation_failure,
        }
        for name, classifier in variants.items()
    ]


def forward(classifier: Classifier, pixels: torch.Tensor) -> torch.Tensor:
    """Logits."""
    return classifier.logits(pixels)


def gradient(classifier: Classifier, pixels: torch.Tensor) -> torch.Tensor:
    """Input gradients of the first class."""
    targets = torch.zeros(len(pixels), dtype=torch.long, device=pixels.device)
    return input_gradient(classifier.folded, classifier.normalize(pixels), targets)[0]


def work(classifier: Classifier, pixels: torch.Tensor) -> None:
    """Both kinds of passes."""
    forward(classifier, pixels)
    gradient(classifier, pixels)


def seconds_of(pass_: Callable[[], object], device: str) -> float:
    """Wall time of one call, with the device's queue drained on both sides."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    pass_()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def show(console: Console, title: str, rows: list[dict[str, object]]) -> None:
    """Rows as a table."""
    if not rows:
        return
    table = Table(title=title, title_justify="left", box=None)
    for column in rows[0]:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    console.print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=2)
    parser.add_argument("--tolerance", type=float, default=0.005)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--resnet50", action="store_true", help="time resnet50 with random weights as well")
    parser.add_argument("--only", choices=["curves", "speed"])
    parser.add_argument("--modes", nargs="+", choices=list(MODES), default=list(MODES))
    parser.add_argument("--out", type=Path, default=Path("modes.json"))
    options = parser.parse_args()
    console = Console()
    photos = [
        EncodedImage(i, relative, photo_path(package, relative).read_bytes(), None)
        for i, (package, relative) in enumerate(PHOTOS[: options.photos])
    ]
    curves = [] if options.only == "speed" else curve_rows(photos, options.tolerance, options.device)
    show(console, f"adaptive curves, tolerance {options.tolerance:g}", curves)
    references: list[ModelReference] = [DemoModel()]
    if options.resnet50:
        references.append(TorchvisionModel.model_validate({"name": "resnet50", "weights": {"uri": "random:0"}}))
    speeds = [
        row
        for reference in references
        if options.only != "curves"
        for row in speed_rows(reference, options.modes, options.batch, options.rounds, options.device)
    ]
    show(console, "modes of the model, ratios to fp32", speeds)
    found = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {options.device}",
        "versions": describe_environment(torch.device(options.device)),
        "curves": curves,
        "speeds": speeds,
    }
    options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
