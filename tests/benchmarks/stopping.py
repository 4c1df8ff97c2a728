"""How often a stop rule decides wrongly, and how many images it saves, by simulation; run with `make stopping`.

The confidence sequences of `auditcore.metrics.confidence_sequences` look after every image, at the batch and at all
images like it; a decision needs both. It is wrong if the mean of the batch is on the other side of the threshold. Every
line shuffles one batch again and again: the batch and the threshold are fixed, chance is in the order only, as in an
audit. Writes all lines to `stopping.json` and fails if wrong decisions are more frequent than alpha on any.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from auditcore.contracts.metrics import METRICS
from auditcore.contracts.stopping import looks
from auditcore.metrics.confidence_sequences import log_capital

SIZES = (50, 200, 1000)
DISTANCES = (0.0, 0.002, 0.02, 0.05, 0.1, 0.2, 0.4)
"""Of the threshold from the mean of the batch, in widths of the metric's range; at 0 the mean just meets it."""

ORDERS_AT_ONCE = 250
MANY = 10
"""Conditions that share the error rate in the last column."""


@dataclass(frozen=True)
class Batch:
    """Values of all images, and the range of their metric."""

    name: str
    values: np.ndarray
    lowest: float = 0.0
    highest: float = 1.0


@dataclass(frozen=True)
class Line:
    """What became of one batch and distance, averaged over thresholds on both sides.

    Attributes:
        wrong: Share of orders with a wrong decision, on the side of the threshold where that is more frequent.
        decided: Share of orders with a decision before the last image.
        saved: Share of images not needed, looking after every image.
        saved_at_looks: The same at the looks of an audit, where the last one may come late.
        saved_of_many: As `saved_at_looks`, where ten conditions share the error rate.
    """

    batch: str
    images: int
    distance: float
    orders: int
    wrong: float
    decided: float
    saved: float
    saved_at_looks: float
    saved_of_many: float


SMOOTH: Mapping[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "beta(2, 2)": lambda random, n: random.beta(2, 2, n),
    "beta(.5, .5)": lambda random, n: random.beta(0.5, 0.5, n),
    "beta(20, 30)": lambda random, n: random.beta(20, 30, n),
    "beta(1, 12)": lambda random, n: random.beta(1, 12, n),
    "Bernoulli(.5)": lambda random, n: (random.random(n) < 0.5).astype(np.float64),
    "Bernoulli(.9)": lambda random, n: (random.random(n) < 0.9).astype(np.float64),
    "0 or uniform": lambda random, n: np.where(random.random(n) < 0.7, 0.0, random.random(n)),
    "beta(2, 2), a third undefined": lambda random, n: np.where(random.random(n) < 1 / 3, np.nan, random.beta(2, 2, n)),
}
"""Bell-shaped, U-shaped, narrow, skewed, shares of images, scores that are 0 for most images, and gaps."""


def made_up(images: int, seed: int) -> Iterator[Batch]:
    """One batch of each population."""
    random = np.random.default_rng((seed, images))
    for name, draw in SMOOTH.items():
        yield Batch(name, draw(random, images).round(5))


def measured(images: int) -> Iterator[Batch]:
    """Real values of a small classifier of digits: symmetric relevance gain, and relative loss of probability."""
    sys.path.append(str(Path(__file__).parents[1]))
    import digits  # noqa: PLC0415 - a module of the tests, found only now
    from auditcore.auditing import audit  # noqa: PLC0415 - only these batches need torch
    from auditcore.contracts.images import ImageBatchReference  # noqa: PLC0415 - see above
    from auditcore.contracts.request import AuditRequest  # noqa: PLC0415 - see above

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        request = AuditRequest.model_validate(
            {
                "model": digits.reference(digits.write_weights(folder)).model_dump(),
                "images": ImageBatchReference(digest="sha256:" + "0" * 64),
                "plan": {
                    "explainers": [{"kind": "input_x_gradient"}],
                    "checks": [{"kind": "deletion", "grid": 4, "repeats": 1}, {"kind": "edda", "keep": [0.15]}],
                },
            }
        )
        report = audit(request, images=digits.encoded(images), access=digits.access(folder))
    for result in report.results:
        metric = METRICS[result.check][result.metric]
        if result.metric in {"srg", "drop_percent"} and metric.lowest is not None and metric.highest is not None:
            values = np.array([np.nan if value is None else value for value in result.per_image], dtype=np.float64)
            yield Batch(f"digits, {result.metric}", values, metric.lowest, metric.highest)


def first_times(
    batch: Batch, threshold: float, limits: tuple[float, ...], orders: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """When `above` and `below` were known at each limit: (limit, order); N + 1 for never before N.

    Known is what holds for the batch and for all images like it.
    """
    n = len(batch.values)
    above: list[np.ndarray] = []
    below: list[np.ndarray] = []
    for start in range(0, orders, ORDERS_AT_ONCE):
        shuffled = np.array([random.permutation(batch.values) for _ in range(min(ORDERS_AT_ONCE, orders - start))])
        for found, values, claim, lowest in (
            (above, shuffled, threshold, batch.lowest),
            (below, -shuffled, -threshold, -batch.highest),
        ):
            times = []
            for population in (n, None):
                # with the last image everything is known of the batch, so it decides nothing
                capital = log_capital(values, population=population, claim=claim, lowest=lowest)[:, :-1]
                reached = np.array([capital >= limit for limit in limits])
                times.append(np.where(reached.any(axis=2), reached.argmax(axis=2) + 1, n + 1))
            found.append(np.maximum(*times))
    return np.concatenate(above, axis=1), np.concatenate(below, axis=1)


def simulate(batch: Batch, distance: float, orders: int, alpha: float, random: np.random.Generator) -> Line | None:
    """One line; None where no threshold at this distance lies inside the metric's range."""
    n = len(batch.values)
    mean = float(np.nanmean(batch.values))
    width = batch.highest - batch.lowest
    limits = (-math.log(alpha), -math.log(alpha / MANY))
    ends = np.array(list(looks(n, 8)))
    wrong, used, at_looks, of_many = [], [], [], []
    for sign in (-1, 1):
        threshold = mean + sign * distance * width
        if not batch.lowest < threshold < batch.highest:
            continue
        above, below = first_times(batch, threshold, limits, orders, random)
        # a mean that equals the threshold is at least and at most it: to be wrong is to leave it on either side
        times = np.minimum(above, below)
        mistaken = above < below if sign > 0 else below < above
        if distance == 0:
            mistaken = (above <= n) if sign > 0 else (below <= n)
        wrong.append(float(mistaken[0].mean()))
        used.append(np.minimum(times[0], n))
        one, many = (ends[np.searchsorted(ends, np.minimum(time, n))] for time in times)
        at_looks.append(one)
        of_many.append(many)
    if not wrong:
        return None
    return Line(
        batch=batch.name,
        images=n,
        distance=distance,
        orders=orders * len(wrong),
        wrong=max(wrong),
        decided=float((np.concatenate(used) < n).mean()),
        saved=float(1 - np.concatenate(used).mean() / n),
        saved_at_looks=float(1 - np.concatenate(at_looks).mean() / n),
        saved_of_many=float(1 - np.concatenate(of_many).mean() / n),
    )


def main() -> None:
    """Print a Markdown table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=1000, help="random orders a threshold")
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("stopping.json"))
    options = parser.parse_args()
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"Stated error rate {options.alpha:g}, {options.orders} random orders a threshold; percent.\n")
    heads = (
        "images",
        "batch",
        "distance",
        "wrong",
        "decided early",
        "saved",
        "saved at looks",
        f"saved, {MANY} conditions",
    )
    console.print(f"| {' | '.join(heads)} |\n| ---: | :--- |{' ---: |' * (len(heads) - 2)}")
    lines: list[Line] = []
    for images in SIZES:
        batches = [*made_up(images, options.seed), *(measured(images) if images <= SIZES[1] else ())]
        for position, batch in enumerate(batches):
            for distance in DISTANCES:
                random = np.random.default_rng((options.seed, images, position, DISTANCES.index(distance)))
                line = simulate(batch, distance, options.orders, options.alpha, random)
                if line is None:
                    continue
                lines.append(line)
                shares = (line.wrong, line.decided, line.saved, line.saved_at_looks, line.saved_of_many)
                cells = " | ".join(f"{100 * share:.1f}" for share in shares)
                console.print(f"| {images} | {batch.name} | {distance:g} | {cells} |")
    options.out.write_text(
        json.dumps(
            {"alpha": options.alpha, "orders": options.orders, "rows": [asdict(line) for line in lines]}, indent=1
        )
    )
    worst = max(lines, key=lambda line: line.wrong)
    console.print(
        f"\nWorst: {100 * worst.wrong:.2f} % wrong ({worst.batch}, {worst.images} images, {worst.distance:g})."
    )
    for distance in DISTANCES:
        own = [line.saved_at_looks for line in lines if line.distance == distance]
        console.print(f"Distance {distance:g}: {100 * float(np.mean(own)):.0f} % of the images saved on average.")
    if worst.wrong > options.alpha:
        sys.exit(f"wrong decisions are more frequent than {options.alpha:g}")


if __name__ == "__main__":
    main()
