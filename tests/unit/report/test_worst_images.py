"""Images in the order in which a person should look at them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import made_up_audits as made_up
from auditcore.contracts.policy import Condition
from auditcore.contracts.report import AuditReport
from auditcore.report.worst_images import worst_first


def condition(**changes: Any) -> Condition:
    fields = {"check": "deletion", "explainer": "gradient", "metric": "srg"}
    return Condition.model_validate(fields | changes)


def report(
    *rows: tuple[str, Sequence[float | None]], policy: tuple[Condition, ...] = (), model: str | None = None
) -> AuditReport:
    images = {index: [1] for index in range(len(rows[0][1]))}
    return made_up.report(
        made_up.shard(model, images, *(made_up.row(name, values) for name, values in rows)), policy=policy
    )


def order(found: AuditReport, model: str | None = None) -> list[int]:
    return [one.image.index for one in worst_first(found, model)]


UP = [index / 10 for index in range(9)]


def test_without_conditions_headline_metrics_of_all_explainers_count() -> None:
    assert order(report(("gradient", UP))) == list(range(9))
    assert order(report(("gradient", UP[::-1]))) == list(range(9))[::-1]
    # the control knows nothing of the model
    assert order(report(("gradient", UP), ("random", [UP[-1], *UP[:-1]]))) == list(range(9))
    both = worst_first(report(("gradient", UP), ("grad_cam", UP[::-1])))
    assert {one.badness for one in both} == {0.5}
    assert [one.image.index for one in both] == list(range(9))


def test_badness_is_the_share_of_images_that_are_better_and_equal_ones_count_half() -> None:
    found = {one.position: one.badness for one in worst_first(report(("gradient", [0.1, 0.3, 0.3, 0.9])))}
    assert found == {0: 1.0, 1: 0.5, 2: 0.5, 3: 0.0}
    (alone,) = worst_first(report(("gradient", [0.1])))
    assert alone.badness == 0.5


def test_open_conditions_come_first_then_all_conditions() -> None:
    missed = condition(explainer="grad_cam", at_least=0.9)
    met = condition(explainer="gradient", at_least=-1.0)
    rows = (("gradient", UP), ("grad_cam", UP[::-1]))
    assert order(report(*rows, policy=(met, missed))) == list(range(9))[::-1]
    assert order(report(*rows, policy=(met,))) == list(range(9))


def test_the_direction_is_that_of_the_condition() -> None:
    assert order(report(("gradient", UP), policy=(condition(at_most=0.1),))) == list(range(9))[::-1]


def test_the_value_that_makes_an_image_the_worst_is_named() -> None:
    first = worst_first(report(("gradient", UP), ("grad_cam", [0.15, 0.1, *UP[2:]])))[0]
    assert first.image.index == 0
    assert first.worst is not None
    assert (first.worst.explainer, first.value) == ("gradient", 0.0)


def test_images_without_a_value_come_last() -> None:
    found = worst_first(report(("gradient", [None, 0.9, 0.1])))
    assert [one.image.index for one in found] == [2, 1, 0]
    assert (found[-1].badness, found[-1].worst, found[-1].value) == (None, None, None)


def test_each_model_of_several_has_its_own_order() -> None:
    images = {index: [1] for index in range(9)}
    shards = [
        made_up.shard("one", images, made_up.row("gradient", UP)),
        made_up.shard("two", {**images, 0: "not_correct"}, made_up.row("gradient", UP[1:][::-1])),
    ]
    found = made_up.report(*shards)
    assert order(found, "one") == list(range(9))
    assert order(found, "two") == list(range(9))[:0:-1]


@given(values=st.lists(st.one_of(st.none(), st.integers(-9, 9).map(float)), min_size=1, max_size=12))
def test_every_image_is_there_once_and_a_worse_value_never_comes_later(values: list[float | None]) -> None:
    found = worst_first(report(("gradient", values)))
    assert sorted(one.position for one in found) == list(range(len(values)))
    shown = [values[one.position] for one in found]
    kept = [value for value in shown if value is not None]
    assert kept == sorted(kept)
    assert shown == [*kept, *[None] * (len(values) - len(kept))]
