"""Measures that cannot tell good from bad by their nature; `docs/sense.md` prints these figures."""

from __future__ import annotations

from pathlib import Path

import pytest

import planted_audits
from benchmarks import sense

PAGE = (Path(__file__).parents[2] / "docs" / "sense.md").read_text(encoding="utf-8")


def test_insertion_from_blur_gives_every_map_nearly_everything_where_color_decides() -> None:
    """Blur keeps colors, so nothing has to be inserted; stripes do not survive it."""
    by_color, by_texture = (
        [
            planted_audits.result(planted_audits.report(world), "insertion_deletion", "insertion_blur", name).mean
            for name in ("random", "perfect")
        ]
        for world in ("color", "texture")
    )
    assert by_color[0] is not None
    assert by_color[1] is not None
    assert by_color[1] - by_color[0] < 0.01
    assert by_texture[0] is not None
    assert by_texture[1] is not None
    assert by_texture[1] - by_texture[0] > 0.3


def test_accuracy_under_imputation_of_the_least_relevant_is_one_for_a_map_of_the_wrong_place() -> None:
    """A patch of one color can be imputed from its neighbors, as long as a part of it is left."""
    found = planted_audits.report("color")
    assert planted_audits.result(found, "road", "lerf_accuracy", "wrong").mean == 1
    assert planted_audits.result(found, "road", "lerf_accuracy", "perfect").mean == 1


@pytest.mark.parametrize("world", sense.WORLDS)
def test_the_page_prints_the_meaning_of_metrics(world: str) -> None:
    """Of the maps made by hand: a network that is trained on another machine rounds otherwise, and so do its maps."""
    for questions in (planted_audits.QUESTIONS, sense.BLIND):
        for line in sense.table(world, questions)[2 : 2 + len(sense.BY_HAND)]:
            name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            printed = [row for row in PAGE.splitlines() if row.startswith(f"| {name} |")]
            tables = [[cell.strip() for cell in row.strip("|").split("|")][1:] for row in printed]
            (own,) = tables[sense.WORLDS.index(world) + (0 if questions is planted_audits.QUESTIONS else 2) :][:1]
            assert [float(cell) for cell in own] == pytest.approx([float(cell) for cell in cells], abs=0.05)
