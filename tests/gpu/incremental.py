"""Whether passing only what a removed cell changes pays on the device; see `benchmarks.incremental`.

Exactness is looked at in float32; speed in TF32 and bf16, where a plain pass leaves the least to save.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict

from auditcore.contracts.access import AccessRules
from auditcore.contracts.speed import Speed
from auditcore.devices.arithmetic import arithmetic
from auditcore.models.loading import load_classifier
from benchmarks import incremental, subjects
from benchmarks.incremental import CURVES, GOAL, STAGES, Curve
from gpu.context import Context
from gpu.models import untrained
from gpu.precisions import Precision

BATCH, TINY_BATCH = 64, 2
STEPS, TINY_STEPS = 5, 2
TINY_MODEL, TINY_SIDE_PX = "resnet18", 56

TRIED: tuple[tuple[Precision, Sequence[Curve], Sequence[str]], ...] = (
    ("fp32", ("deletion",), STAGES[-1:]),
    ("tf32", CURVES, STAGES[2:]),
    ("bf16", CURVES, STAGES[2:]),
    ("tf32", CURVES, STAGES[:2]),
)
"""The most wanted first, should time run out."""


def run(context: Context) -> dict[str, object]:
    """Each precision as far as the time goes."""
    until = time.perf_counter() + context.seconds
    model = untrained(TINY_MODEL, TINY_SIDE_PX) if context.tiny else subjects.MODELS["resnet50"]
    classifier = load_classifier(model, access=AccessRules(), device=str(context.device))
    batch, steps = (TINY_BATCH, TINY_STEPS) if context.tiny else (BATCH, STEPS)
    rows: list[dict[str, object]] = []
    for precision, curves, reuses in TRIED:
        for curve in curves:
            if time.perf_counter() > until:
                context.say(f"incremental {precision} {curve}: skipped, no time left")
                continue
            # faster modes let cuDNN try out its kernels, for plain passes and for windows
            with arithmetic(Speed(precision=precision), context.device):
                found = incremental.measure(
                    classifier,
                    batch=batch,
                    steps=steps,
                    curves=(curve,),
                    reuses=reuses,
                    precision="bf16" if precision == "bf16" else "fp32",
                    say=lambda line, precision=precision: context.say(f"incremental {precision} {line}"),
                )
            rows += [{"precision": precision, **asdict(row), "pays": row.pays} for row in found]
    return {"goal": GOAL, "batch": batch, "rows": rows, "best": max(map(_speedup, rows), default=None)}


def _speedup(row: dict[str, object]) -> float:
    found = row["measured_graphs"] or row["measured"]
    assert isinstance(found, float)
    return found
