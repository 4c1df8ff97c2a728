"""How often 95 % intervals of a mean hold it, by simulation: what `auditcore.metrics.statistics` goes by.

Run with `make intervals`; takes about two minutes on one core. The table stands in `docs/intervals.md`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from rich.console import Console
from scipy import stats
from scipy.special import ndtr, ndtri

from auditcore.contracts.metric import UNBOUNDED, Bounds
from auditcore.metrics.statistics import STRETCH, summarize

SIZES = (8, 30, 100)
RESAMPLES = 2000
"""A fifth of what reports use: the ends scatter more, and coverage is lower by less than 0.2 %."""

SAMPLES_AT_ONCE = 1000
"""They share resamples; more would let one unlucky set of resamples weigh too much, and take too much memory."""

LOW, HIGH = 0.025, 0.975

SHARES = (0.5, 0.8, 0.95, 0.99)

Ends = tuple[np.ndarray, np.ndarray]
Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


@dataclass(frozen=True)
class Population:
    """What is sampled, its true mean, and the range of its metric."""

    name: str
    mean: float
    draw: Draw
    bounds: Bounds = UNBOUNDED


class Cell(NamedTuple):
    """What became of one method on one population.

    Attributes:
        coverage: Share of the intervals given that contain the mean.
        width: Their mean width.
        missing: Share of samples without an interval.
    """

    coverage: float
    width: float
    missing: float


def two_points(low: float, high: float, share: float) -> Draw:
    """`high` in a share of cases, else `low`."""
    return lambda random, shape: np.where(random.random(shape) < share, high, low)


POPULATIONS = (
    Population("normal", 0.0, lambda random, shape: random.normal(size=shape)),
    Population("beta(2, 5)", 2 / 7, lambda random, shape: random.beta(2, 5, shape), (0, 1)),
    Population("beta(.5, .5)", 0.5, lambda random, shape: random.beta(0.5, 0.5, shape), (0, 1)),
    Population("beta(8, 1)", 8 / 9, lambda random, shape: random.beta(8, 1, shape), (0, 1)),
    Population("exponential", 1.0, lambda random, shape: random.exponential(size=shape), (0, None)),
    *(Population(f"0 or 1, p = {share:g}", share, two_points(0, 1, share), (0, 1)) for share in SHARES),
    *(
        Population(f".2 or .8 in [0, 1], p = {share:g}", 0.2 + 0.6 * share, two_points(0.2, 0.8, share), (0, 1))
        for share in SHARES
    ),
    *(
        Population(f".1 or .9 in [-1, 1], p = {share:g}", 0.1 + 0.8 * share, two_points(0.1, 0.9, share), (-1, 1))
        for share in SHARES
    ),
    *(
        Population(f".2 or .8, no bounds, p = {share:g}", 0.2 + 0.6 * share, two_points(0.2, 0.8, share))
        for share in SHARES
    ),
    Population(
        "0 (70 %) or uniform",
        0.15,
        lambda random, shape: np.where(random.random(shape) < 0.7, 0.0, random.random(shape)),
        (0, 1),
    ),
    Population(
        "0, .5 or 1 (40, 20, 40 %)",
        0.5,
        lambda random, shape: random.choice([0.0, 0.5, 1.0], shape, p=[0.4, 0.2, 0.4]),
        (0, 1),
    ),
    Population(
        "-1, 0 or 1 (5, 85, 10 %)",
        0.05,
        lambda random, shape: random.choice([-1.0, 0.0, 1.0], shape, p=[0.05, 0.85, 0.1]),
        (-1, 1),
    ),
    Population("beta(.3, 3)", 1 / 11, lambda random, shape: random.beta(0.3, 3, shape), (0, 1)),
    Population("log-normal", math.exp(0.5), lambda random, shape: random.lognormal(size=shape), (0, None)),
)
"""Smooth and bounded, U-shaped, skewed, heavy-tailed, shares of images, two values inside a metric's range, scores that
are 0 for most images, and differences of shares."""


def percentile(sample: np.ndarray, weights: np.ndarray) -> Ends:
    """Quantiles of the resampled means."""
    low, high = np.quantile(weights @ sample / len(sample), (LOW, HIGH), axis=0)
    return low, high


def bca(sample: np.ndarray, weights: np.ndarray) -> Ends:
    """Bias-corrected and accelerated (Efron 1987)."""
    n, resamples = len(sample), len(weights)
    mean = sample.mean(axis=0)
    means = np.sort(weights @ (sample - mean) / n, axis=0)
    share = (means < -1e-12).mean(axis=0) + (np.abs(means) <= 1e-12).mean(axis=0) / 2
    bias = ndtri(np.clip(share, 0.5 / resamples, 1 - 0.5 / resamples))
    squares = ((sample - mean) ** 2).sum(axis=0)
    cubes = ((sample - mean) ** 3).sum(axis=0)
    acceleration = np.divide(cubes, 6 * squares**1.5, out=np.zeros_like(mean), where=squares > 0)
    ends = []
    for tail in (LOW, HIGH):
        shifted = bias + ndtri(tail)
        position = ndtr(bias + shifted / (1 - acceleration * shifted)) * (resamples - 1)
        ends.append(mean + means[np.rint(position).astype(int), np.arange(len(mean))])
    return ends[0], ends[1]


def student(sample: np.ndarray, _weights: np.ndarray) -> Ends:
    """Student's t."""
    mean = sample.mean(axis=0)
    reach = stats.t.ppf(HIGH, len(sample) - 1) * sample.std(axis=0, ddof=1) / math.sqrt(len(sample))
    return mean - reach, mean + reach


def bootstrap_t(sample: np.ndarray, weights: np.ndarray) -> Ends:
    """Bootstrap-t, as far as reports let it reach, whatever the values: the rule of schema 1."""
    n, mean = len(sample), sample.mean(axis=0)
    limit = STRETCH * stats.t.ppf(HIGH, n - 1)
    means = weights @ (sample - mean) / n
    variances = weights @ (sample - mean) ** 2 / n - means**2
    spread = variances > 1e-12
    beyond = np.where(np.abs(means) > 1e-12, limit * np.sign(means), 0)
    distances = np.where(spread, means / np.sqrt(np.where(spread, variances, 1) / (n - 1)), beyond)
    low, high = np.quantile(np.clip(distances, -limit, limit), (LOW, HIGH), axis=0)
    error = sample.std(axis=0, ddof=1) / math.sqrt(n)
    return mean - high * error, mean - low * error


Method = Callable[[np.ndarray, np.ndarray], Ends]

RIVALS: dict[str, Method] = {"percentile": percentile, "BCa": bca, "Student's t": student, "before": bootstrap_t}


def ours(sample: np.ndarray, bounds: Bounds, generator: np.random.Generator) -> Ends:
    """What reports have; NaN where they have no interval."""
    found = summarize(sample, generator=generator, bounds=[bounds] * sample.shape[1], resamples=RESAMPLES)
    low, high = np.array([one.ci or (math.nan, math.nan) for one in found]).T
    return low, high


def simulate(
    population: Population,
    n: int,
    simulations: int,
    seed: int,
    methods: Mapping[str, Method] = MappingProxyType(RIVALS),
) -> Iterator[tuple[str, Cell]]:
    """Name and figures of every method and of reports, on the same samples."""
    random = np.random.default_rng((seed, n, POPULATIONS.index(population)))
    found: dict[str, list[Ends]] = {name: [] for name in (*methods, "auditcore")}
    for start in range(0, simulations, SAMPLES_AT_ONCE):
        sample = population.draw(random, (n, min(SAMPLES_AT_ONCE, simulations - start))).astype(np.float64)
        weights = random.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
        for name, method in methods.items():
            found[name].append(method(sample, weights))
        found["auditcore"].append(ours(sample, population.bounds, random))
    for name, parts in found.items():
        low, high = (np.concatenate(ends) for ends in zip(*parts, strict=True))
        given = ~np.isnan(low)
        low, high = low[given], high[given]
        # an interval of equal values must not miss its own value by a rounding
        covered = (low - 1e-12 <= population.mean) & (population.mean <= high + 1e-12)
        yield name, Cell(float(covered.mean()), float((high - low).mean()), float(1 - given.mean()))


def cell_text(cell: Cell) -> str:
    """Coverage in percent and mean width, and how many percent of the samples have no interval."""
    missing = f", {100 * cell.missing:.0f} none" if cell.missing else ""
    return f"{100 * cell.coverage:.1f} ({cell.width:.2f}){missing}"


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=4000, help="samples a population and size")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    console = Console(soft_wrap=True, highlight=False, markup=False)
    names = (*RIVALS, "auditcore")
    console.print(f"Coverage in percent (mean width) of 95 % intervals, {options.simulations} samples each.\n")
    console.print(f"| n | population | {' | '.join(names)} |")
    console.print(f"| ---: | :--- |{' ---: |' * len(names)}")
    for n in SIZES:
        for population in POPULATIONS:
            found = simulate(population, n, options.simulations, options.seed)
            cells = [cell_text(cell) for _, cell in found]
            console.print(f"| {n} | {population.name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
