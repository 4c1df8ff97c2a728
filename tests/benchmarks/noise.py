"""How often maps that know nothing pass a condition; run with `make noise`, takes about two minutes on one core.

The random explainer runs on digits, image by image and seed by seed, and its values of `inter_model_deletion` are cut
into audits of a few images. Nothing makes its mean differ from 0, so `inter_model_deletion >= 0` should pass only as
often as the lower end of a 95 % interval errs: in 2.5 % of audits.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console

import digits
from auditcore.auditing import audit
from auditcore.contracts.checks import DeletionCheck
from auditcore.contracts.explainers import Random
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy import LEAST_IMAGES, Condition, questions_of
from auditcore.contracts.report import Result
from auditcore.contracts.request import AuditRequest
from auditcore.report.bootstrap import summaries
from auditcore.report.conditions import Findings, judge_conditions

SIZES = (4, 8, 30, 100)
BOUNDS = (-1.0, 1.0)
PLAN = AuditPlan(explainers=(Random(),), checks=(DeletionCheck(grid=4, repeats=5),))


def noise(images: int, seeds: int) -> Iterator[float]:
    """`inter_model_deletion` of random maps, of every image under every seed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = digits.reference(digits.write_weights(folder)).model_dump()
        for seed in range(seeds):
            request = AuditRequest.model_validate(
                {
                    "model": model,
                    "images": ImageBatchReference(digest="sha256:" + "0" * 64),
                    "plan": {
                        "seed": seed,
                        "explainers": [{"kind": "random"}],
                        "checks": [{"kind": "deletion", "grid": 4, "repeats": 5}],
                    },
                }
            )
            report = audit(request, images=digits.encoded(images), access=digits.access(folder))
            (row,) = (found for found in report.controls if found.metric == "inter_model_deletion")
            yield from (value for value in row.per_image if value is not None)


def audits(values: Sequence[float], size: int) -> Iterator[Result]:
    """The result of every audit of so many images, each value in one of them."""
    for seed, start in enumerate(range(0, len(values) - size + 1, size)):
        own = tuple(values[start : start + size])
        names = [str(number) for number in range(size)]
        (found,) = summaries([own], images=names, bounds=[BOUNDS], seed=seed)
        yield Result(
            check="deletion",
            explainer="random",
            metric="inter_model_deletion",
            variant=None,
            unit="probability",
            higher_is_better=True,
            n=found.n,
            n_not_applicable=size - found.n,
            mean=found.mean,
            std=found.std,
            sem=found.sem,
            ci=found.ci,
            ci_reason=found.ci_reason,
            per_image=own,
            reasons={},
        )


def passes(found: Sequence[Result], *, statistic: Literal["ci", "mean"], min_images: int) -> int:
    """Audits that `inter_model_deletion >= 0` passes."""
    condition = Condition(
        check="deletion",
        explainer="random",
        metric="inter_model_deletion",
        at_least=0.0,
        statistic=statistic,
        min_images=min_images,
    )
    questions = questions_of((condition,), PLAN)
    passed = 0
    for result in found:
        (judged,) = judge_conditions(questions, Findings(PLAN, {(None, questions[0].row): result}))
        passed += judged.outcome.status == "passed"
    return passed


def main() -> None:
    """Print a Markdown table; fail if noise passes more often than 2.5 % and three standard errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=40)
    options = parser.parse_args()
    values = list(noise(options.images, options.seeds))
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"{len(values)} values of random maps, mean {sum(values) / len(values):.5f}.\n")
    console.print("| images | audits | pass by the mean | by the interval of any number of images | by default |")
    console.print("| ---: | ---: | ---: | ---: | ---: |")
    too_often = False
    for size in SIZES:
        found = list(audits(values, size))
        by_mean = passes(found, statistic="mean", min_images=1) / len(found)
        by_interval = passes(found, statistic="ci", min_images=1) / len(found)
        by_default = passes(found, statistic="ci", min_images=LEAST_IMAGES) / len(found)
        shares = " | ".join(f"{100 * share:.1f} %" for share in (by_mean, by_interval, by_default))
        console.print(f"| {size} | {len(found)} | {shares} |")
        too_often |= by_default > 0.025 + 3 * (0.025 * 0.975 / len(found)) ** 0.5
    sys.exit(too_often)


if __name__ == "__main__":
    main()
