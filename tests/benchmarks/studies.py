"""The papers' comparisons of training methods; writes the tables and figures of docs/benchmarks/studies.md.

Every study goes on with what its folder holds. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import platform
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from auditcore import AuditPlan, ImageBatchReference, StudyPlan, StudyReport, StudyRequest, study
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.training.request import HeldOut
from auditcore.costs.study_estimate import study_estimate
from benchmarks.machine import processor
from benchmarks.paper_studies import ACCESS, LARGE, SMALL, PaperStudy, paper_studies
from benchmarks.study_contrasts import Reliance, contrast_table
from benchmarks.study_pages import draw_figures, reliance_of, study_page

console = Console()


def plan_of(wanted: PaperStudy, seeds: int) -> StudyPlan:
    """Methods, seeds and the audit of a study."""
    return StudyPlan(
        methods=wanted.methods,
        seeds=tuple(range(seeds)),
        audit=AuditPlan(explainers=wanted.explainers, checks=wanted.checks),
        audit_images=wanted.audit_images,
    )


def show_price(wanted: PaperStudy, seeds: int, passes_per_s: float) -> float:
    """Print what a study is expected to cost, and return its hours.

    Args:
        wanted: The study.
        seeds: Number of seeds.
        passes_per_s: Forward passes per second at 224 x 224 pixels; smaller images are taken to be faster.
    """
    training, test = wanted.images
    held_out = round(HeldOut().share * training)
    estimate = study_estimate(
        plan_of(wanted, seeds),
        wanted.model,
        training=training - held_out,
        validation=held_out,
        test=test,
        passes_per_s=passes_per_s,
    )
    hours = estimate.seconds / 3600
    console.print(f"{wanted.name}: {estimate.passes:.3g} forward passes, {hours:.1f} hours", highlight=False)
    return hours


def run(wanted: PaperStudy, seeds: int, out: Path, device: str) -> StudyReport:
    """One study; goes on with what the folder holds."""
    training, test = wanted.data()
    if (len(training), len(test)) != wanted.images:
        message = f"{wanted.name} has {len(training)} and {len(test)} images, not {wanted.images}"
        raise AssertionError(message)
    placeholder = ImageBatchReference(digest=sha256(b""))
    return study(
        StudyRequest(model=wanted.model, images=placeholder, test=placeholder, plan=plan_of(wanted, seeds)),
        out=out,
        images=list(training),
        test=list(test),
        access=ACCESS,
        device=device,
        progress=Told(wanted.name),
    )


class Told:
    """Prints what begins, and how much is done."""

    def __init__(self, study: str) -> None:
        self._study = study
        self._last = ""

    def __call__(self, share: float, now: str) -> None:
        """Print a line if something else has begun."""
        if now != self._last:
            self._last = now
            console.print(f"{self._study} {share:4.0%} {now}", highlight=False)


def main() -> None:
    """Run the studies, and write their tables and figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="Trainings of each method.")
    parser.add_argument("--out", type=Path, default=Path("studies"), help="Folder of weights, reports and tables.")
    parser.add_argument("--large", action="store_true", help="ResNet-50 on 16 000 images of 128 x 128, for a card.")
    parser.add_argument("--device", default="cpu", help="Where models are trained and audited, such as cuda.")
    parser.add_argument(
        "--price", type=float, metavar="PASSES", help="Only say what it costs at so many forward passes a second."
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=[one.name for one in paper_studies(SMALL)],
        help="Only this study. Repeatable.",
    )
    options = parser.parse_args()
    scale = LARGE if options.large else SMALL
    chosen = [one for one in paper_studies(scale) if not options.only or one.name in options.only]
    if options.price is not None:
        hours = sum(show_price(one, options.seeds, options.price) for one in chosen)
        console.print(f"together {hours:.1f} hours", highlight=False)
        return
    reports: dict[str, StudyReport] = {}
    reliance: Reliance = {}
    pages = []
    for one in chosen:
        folder = options.out / one.name
        report = reports[one.name] = run(one, options.seeds, folder, options.device)
        if any("reliance" in table.rows for table in one.tables):
            reliance = reliance_of(one, report, folder)
        pages.append(study_page(one, report, reliance))
    minutes = sum(report.seconds for report in reports.values()) / 60
    made = (
        f"Made by `make studies` on {datetime.now(UTC):%Y-%m-%d}: {minutes:.0f} minutes of computing, {processor()}, "
        f"Python {platform.python_version()}."
    )
    (options.out / "studies.md").write_text(
        "\n\n".join([made, "## Differences", contrast_table(reports, reliance), *pages]) + "\n"
    )
    draw_figures(reports, reliance, options.out)
    console.print(f"written to {options.out / 'studies.md'}")


if __name__ == "__main__":
    main()
