"""How often 95 % intervals of a mean hold it, by simulation: what `auditcore.metrics.statistics` goes by.

Run with `python tests/benchmarks/coverage.py --simulations 4000`; takes about a minute on one core.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from scipy import stats
from scipy.special import ndtr, ndtri

from auditcore.metrics.statistics import summarize

SIZES = (5, 8, 10, 20, 30, 100)
RESAMPLES = 2000
"""A fifth of what reports use: the ends scatter more, and coverage is lower by less than 0.2 %."""

SAMPLES_AT_ONCE = 1000
"""They share resamples; more would let one unlucky set of resamples weigh too much, and take too much memory."""

LOW, HIGH = 0.025, 0.975

Ends = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Population:
    """What is sampled, and its true mean."""

    name: str
    mean: float
    draw: Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


POPULATIONS = (
    Population("normal", 0.0, lambda random, shape: random.normal(size=shape)),
    Population("beta(2, 5)", 2 / 7, lambda random, shape: random.beta(2, 5, shape)),
    Population("beta(.5, .5)", 0.5, lambda random, shape: random.beta(0.5, 0.5, shape)),
    Population("exponential", 1.0, lambda random, shape: random.exponential(size=shape)),
    Population("log-normal", math.exp(0.5), lambda random, shape: random.lognormal(size=shape)),
    Population("Bernoulli(.8)", 0.8, lambda random, shape: (random.random(shape) < 0.8).astype(np.float64)),
    Population(
        "0 or uniform",
        0.15,
        lambda random, shape: np.where(random.random(shape) < 0.7, 0.0, random.random(shape)),
    ),
)
"""Smooth and bounded, U-shaped, skewed, heavy-tailed, shares of images, and scores that are 0 for most images."""


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
    """Bootstrap-t without a limit; infinite where too many resamples have no spread."""
    n, mean = len(sample), sample.mean(axis=0)
    means = weights @ (sample - mean) / n
    variances = weights @ (sample - mean) ** 2 / n - means**2
    spread = variances > 1e-12
    beyond = np.where(np.abs(means) > 1e-12, np.copysign(np.inf, means), 0)
    distances = np.where(spread, means / np.sqrt(np.where(spread, variances, 1) / (n - 1)), beyond)
    ordered = np.sort(distances, axis=0)
    low, high = (ordered[round(share * (len(ordered) - 1))] for share in (LOW, HIGH))
    error = sample.std(axis=0, ddof=1) / math.sqrt(n)
    varied = error > 0
    factors = (np.where(varied, end, 0) for end in (high, low))
    low_end, high_end = (mean - factor * np.where(varied, error, 1) for factor in factors)
    return low_end, high_end


RIVALS = {"percentile": percentile, "BCa": bca, "Student's t": student, "bootstrap-t, no limit": bootstrap_t}


def ours(sample: np.ndarray, generator: np.random.Generator) -> Ends:
    """What reports have."""
    found = [one.ci for one in summarize(sample, generator=generator, resamples=RESAMPLES) if one.ci is not None]
    low, high = np.array(found).T
    return low, high


def simulate(population: Population, n: int, simulations: int, seed: int) -> Iterator[tuple[str, float, float]]:
    """Name, coverage and mean width of every method, on the same samples."""
    random = np.random.default_rng((seed, n, POPULATIONS.index(population)))
    found: dict[str, list[Ends]] = {name: [] for name in (*RIVALS, "auditcore")}
    for start in range(0, simulations, SAMPLES_AT_ONCE):
        sample = population.draw(random, (n, min(SAMPLES_AT_ONCE, simulations - start)))
        weights = random.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
        for name, method in RIVALS.items():
            found[name].append(method(sample, weights))
        found["auditcore"].append(ours(sample, random))
    for name, parts in found.items():
        low, high = (np.concatenate(ends) for ends in zip(*parts, strict=True))
        # a sample of equal values has an interval of no width, which must not miss its own value by a rounding
        covered = (low - 1e-12 <= population.mean) & (population.mean <= high + 1e-12)
        yield name, float(covered.mean()), float((high - low).mean())


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
            cells = [
                f"{100 * coverage:.1f} ({width:.2f})"
                for _, coverage, width in simulate(population, n, options.simulations, options.seed)
            ]
            console.print(f"| {n} | {population.name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
