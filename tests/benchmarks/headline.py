"""Robustness and faithfulness of every explainer on the demo model: run with `make headline`.

Prints two Markdown tables and draws a picture: S(pearson) of all explainers and six augmentations, as Tetkova & Hansen
2023 measure it, beside the faithfulness of the same maps. Methods that need many passes run with fewer samples than
their papers; the plan is below, and in the report that `--report` keeps.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import torch
from matplotlib import pyplot as plt
from rich.console import Console
from rich.progress import Progress
from scipy.stats import spearmanr

from auditcore import AuditReport, AuditRequest, audit
from auditcore.contracts.access import AccessRules
from auditcore.contracts.checks import DeletionCheck, EddaCheck, PixelFlippingCheck, SweepCheck
from auditcore.contracts.explainers import (
    Deconvolution,
    DeepLift,
    Explainer,
    GradCam,
    Gradient,
    GradientShap,
    GuidedBackpropagation,
    GuidedGradCam,
    Iba,
    InputXGradient,
    IntegratedGradients,
    KernelShap,
    LrpEpsilonAlpha2Beta1Flat,
    LrpEpsilonGammaBox,
    LrpEpsilonPlusFlat,
    NoiseTunnel,
    Occlusion,
    Random,
    Rise,
    Saliency,
    SmoothGrad,
)
from auditcore.contracts.images import InlineImage, InlineImages
from auditcore.contracts.models import DemoModel
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import Result
from auditcore.images.encoded import EncodedImage
from auditcore.report.serialize import report_bytes
from auditcore_service.cli.demo import PHOTOS, photo_path

EXPLAINERS: tuple[Explainer, ...] = (
    Gradient(),
    Saliency(),
    InputXGradient(),
    IntegratedGradients(steps=20),
    GradientShap(samples=16),
    SmoothGrad(samples=16),
    NoiseTunnel(name="smoothgrad_squared", aggregate="smoothgrad_squared", samples=16),
    NoiseTunnel(name="vargrad", aggregate="vargrad", samples=16),
    DeepLift(),
    GuidedBackpropagation(),
    Deconvolution(),
    GradCam(),
    GuidedGradCam(),
    Iba(samples=2),
    LrpEpsilonPlusFlat(),
    LrpEpsilonGammaBox(),
    LrpEpsilonAlpha2Beta1Flat(),
    Occlusion(window=56, stride=28),
    Rise(masks=128),
    KernelShap(segments="cells", count=16, samples=64),
    Random(),
)
BELOW = ("vargrad", "lrp_epsilon_plus_flat", "rise", "gradient", "integrated_gradients", "guided_backpropagation")
"""Labels that stand below their point, because another one is above it."""

PICTURE = Path(__file__).parents[2] / "docs" / "robustness_and_faithfulness.png"


def plan() -> AuditPlan:
    """All explainers; six augmentations with automatic intervals; three measures of faithfulness."""
    return AuditPlan(
        seed=7,
        explainers=EXPLAINERS,
        checks=(SweepCheck(levels=5), DeletionCheck(grid=7), PixelFlippingCheck(), EddaCheck(keep=(0.15,))),
    )


def measure(images: Sequence[EncodedImage]) -> AuditReport:
    """Audit the demo model, with a progress bar."""
    request = AuditRequest(
        model=DemoModel(),
        images=InlineImages(images=tuple(InlineImage(data=b"AA==") for _ in images[:1])),
        plan=plan(),
    )
    with Progress() as bar:
        task = bar.add_task("auditing", total=1.0)
        return audit(
            request,
            images=images,
            access=AccessRules(),
            progress=lambda share: bar.update(task, completed=share),
        )


def rows_of(report: AuditReport) -> dict[tuple[str | None, str, str | None], Result]:
    """Every result by explainer, metric and variant."""
    return {(row.explainer, row.metric, row.variant): row for row in (*report.results, *report.controls)}


def cell(row: Result) -> str:
    """Mean and standard error."""
    return "-" if row.mean is None else f"{row.mean:.2f} ± {row.sem:.2f}"


def average(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return math.fsum(values) / len(values)


def robustness(report: AuditReport, explainer: str) -> float:
    """Mean of S(pearson) over the six augmentations."""
    rows = rows_of(report)
    means = [
        rows[explainer, "s_pearson", augmentation.label].mean for augmentation in report.plan.checks[0].augmentations
    ]
    return average([mean for mean in means if mean is not None])


def tables(report: AuditReport) -> str:
    """Both tables in Markdown, and the rank correlations between their columns."""
    rows = rows_of(report)
    augmentations = [augmentation.label for augmentation in report.plan.checks[0].augmentations]
    names = [explainer.label for explainer in report.plan.explainers if explainer.label not in report.not_applicable]
    lines = [f"| Explainer | {' | '.join(augmentations)} | mean |", "|---" * (len(augmentations) + 2) + "|"]
    for name in sorted(names, key=lambda name: -robustness(report, name)):
        cells = [cell(rows[name, "s_pearson", augmentation]) for augmentation in augmentations]
        lines.append(f"| {name} | {' | '.join(cells)} | {robustness(report, name):.2f} |")
    faithful = ("inter_model_deletion", "srg", "pixel_flipping_aoc")
    lines += ["", f"| Explainer | mean S(pearson) | {' | '.join(faithful)} | comprehensiveness |", "|---" * 6 + "|"]
    for name in sorted(names, key=lambda name: -(rows[name, "inter_model_deletion", None].mean or 0)):
        cells = [cell(rows[name, metric, None]) for metric in faithful]
        cells.append(cell(rows[name, "comprehensiveness", "top_15"]))
        lines.append(f"| {name} | {robustness(report, name):.2f} | {' | '.join(cells)} |")
    lines.append("")
    knowing = [name for name in names if name != "random"]
    for metric in faithful:
        found = spearmanr(
            [robustness(report, name) for name in knowing], [rows[name, metric, None].mean for name in knowing]
        )
        lines.append(f"Rank correlation of robustness with {metric} over {len(knowing)} explainers: {found[0]:.2f}")
    for augmentation in augmentations:
        row = rows[None, "probability_score", augmentation]
        found = next(entry for entry in report.intervals if entry.augmentation == augmentation)
        lines.append(f"{augmentation}: interval {found.interval}, reached {found.reached}, A(probability) {cell(row)}")
    return "\n".join(lines)


def draw(report: AuditReport, path: Path) -> None:
    """Robustness against faithfulness, one point an explainer, bars of one standard error."""
    rows = rows_of(report)
    names = [explainer.label for explainer in report.plan.explainers if explainer.label not in report.not_applicable]
    figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
    for name in names:
        row = rows[name, "inter_model_deletion", None]
        x = robustness(report, name)
        control = name == "random"
        axes.errorbar(
            x, row.mean, yerr=row.sem, fmt="s" if control else "o", color="0.5" if control else "C0", ecolor="0.8"
        )
        beside = (5, -11) if name in BELOW else (5, 4)
        axes.annotate(name, (x, row.mean), xytext=beside, textcoords="offset points", fontsize=8)
    axes.margins(x=0.12)
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.axvline(1, color="0.6", linewidth=0.8)
    axes.set_xlabel("robustness: mean S(pearson) over six augmentations (1 = as stable as the prediction)")
    axes.set_ylabel("faithfulness: inter-model deletion (0 = no better than chance)")
    axes.set_title(f"EfficientNet-Lite0, {report.images.used} photos, mean ± standard error")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Measure, or take a report that was kept; print the tables and draw the picture."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--report", type=Path, default=Path("headline.json"), help="where the report is kept")
    arguments.add_argument("--reuse", action="store_true", help="draw from the kept report instead of measuring again")
    arguments.add_argument("--photos", type=int, default=8, help="how many photos, up to 8")
    given = arguments.parse_args()
    torch.manual_seed(0)
    if given.reuse:
        report = AuditReport.model_validate_json(given.report.read_bytes())
    else:
        paths = [photo_path(*photo) for photo in PHOTOS][: given.photos]
        report = measure([EncodedImage(i, path.name, path.read_bytes()) for i, path in enumerate(paths)])
        given.report.write_bytes(report_bytes(report))
    Console(soft_wrap=True).print(tables(report), markup=False, highlight=False)
    draw(report, PICTURE)


if __name__ == "__main__":
    main()
