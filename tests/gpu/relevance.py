"""What a map of relevance costs in plain gradients on the device. Goal: at most 3.

The gradient is that of the folded model, not compiled, as are the rules. `throughput` says how much faster a compiled
gradient is; a map over that one is the ratio here times that factor.
"""

from __future__ import annotations

import time

from benchmarks import relevance
from gpu.context import Context
from gpu.models import load
from gpu.precisions import Precision, fast_arithmetic

GOAL = 3.0
BATCH, TINY_BATCH = 64, 2
ROUNDS = 3
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32")


def run(context: Context) -> dict[str, object]:
    """Both models with TensorFloat-32 and without it."""
    started = time.perf_counter()
    batch, rounds = (TINY_BATCH, 1) if context.tiny else (BATCH, ROUNDS)
    rows: list[dict[str, object]] = []
    for model in relevance.LIMITS:
        wanted = [precision for precision in PRECISIONS if context.wants(f"{model} {precision}")]
        if not wanted:
            continue
        classifier = load(model, context)
        for precision in wanted:
            if time.perf_counter() - started > context.seconds:
                context.say(f"relevance {model} {precision}: skipped, no time left")
                continue
            with fast_arithmetic(precision):
                for row in relevance.measure(classifier, batch, rounds):
                    ratio = row["ours_over_gradient"]
                    assert isinstance(ratio, float)
                    rows.append({"model": model, "precision": precision, **row, "reached": ratio <= GOAL})
                    context.say(
                        f"relevance {model} {precision} {row['composite']}: {ratio:.2f} gradients (goal {GOAL:g}), "
                        f"zennit {row['zennit_over_gradient']:.2f}, gradient {batch / row['seconds_gradient']:.0f} "
                        f"images per second, deviation {row['max_deviation']:.1e}"
                    )
                    context.keep({"rows": rows})
    return {"goal": GOAL, "rows": rows}
