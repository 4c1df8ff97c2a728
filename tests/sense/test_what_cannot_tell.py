"""Measures that cannot tell good from bad by their nature; `docs/sense.md` prints these figures."""

from __future__ import annotations

import planted_audits


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


def test_accuracy_under_imputation_of_the_least_relevant_is_full_for_a_map_of_the_wrong_place() -> None:
    """A patch of one color can be imputed from its neighbors, as long as a part of it is left."""
    found = planted_audits.report("color")
    assert planted_audits.result(found, "road", "lerf_accuracy", "wrong").mean == 1
    assert planted_audits.result(found, "road", "lerf_accuracy", "perfect").mean == 1
