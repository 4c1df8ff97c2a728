"""The table of docs/intervals.md: its promises, and a few of its cells computed again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.coverage import POPULATIONS, SIZES, simulate

PAGE = Path(__file__).parents[3] / "docs" / "intervals.md"
LEAST = 93.0
EXTREME = ("beta(.3, 3)", "log-normal")
"""Listed to show where the promise ends; the page says so."""


def table() -> dict[tuple[int, str], dict[str, tuple[float, float]]]:
    """Size and population -> method -> coverage in percent and mean width."""
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in PAGE.read_text().splitlines()
        if re.match(r"\| (n|\d+) \|", line)
    ]
    header, *body = (row for row in rows if len(row) == 7)
    found = {}
    for size, name, *cells in body:
        numbers = [re.match(r"([0-9.]+) \(([0-9.]+)\)", cell) for cell in cells]
        found[int(size), name] = {
            method: (float(number[1]), float(number[2]))
            for method, number in zip(header[2:], numbers, strict=True)
            if number is not None
        }
    return found


def test_every_population_and_size_is_listed() -> None:
    assert set(table()) == {(n, population.name) for n in SIZES for population in POPULATIONS}


def test_intervals_cover_what_they_promise() -> None:
    short = {
        key: methods["auditcore"][0]
        for key, methods in table().items()
        if methods["auditcore"][0] < LEAST and key[1] not in EXTREME
    }
    assert short == {}


def test_earlier_intervals_did_not() -> None:
    worst = min(methods["before"][0] for methods in table().values())
    assert worst < 10


@pytest.mark.parametrize(
    ("n", "name"),
    [(8, "0 or 1, p = 0.95"), (8, ".2 or .8 in [0, 1], p = 0.5"), (8, "exponential"), (30, "beta(2, 5)")],
)
def test_cells_can_be_computed_again(n: int, name: str) -> None:
    population = next(one for one in POPULATIONS if one.name == name)
    ((_, cell),) = simulate(population, n, 4000, 0, methods={})
    coverage, width = table()[n, name]["auditcore"]
    # as printed; one sample in 4000 may fall on the other side by a rounding
    assert 100 * cell.coverage == pytest.approx(coverage, abs=0.08)
    assert cell.width == pytest.approx(width, abs=0.006)
