"""Do measures of the same thing put explainers into the same order?"""

from __future__ import annotations

from itertools import combinations

import pytest

import planted_audits
from planted_audits import QUESTIONS, Question

REMOVAL = [question for question in QUESTIONS if question.check != "localization"]
LOCALIZATION = [question for question in QUESTIONS if question.check == "localization"]
LEAST_PAIRS = 30
"""Pairs of explainers that two measures must both tell apart, so that their agreement says something."""


def named(pair: tuple[Question, Question]) -> str:
    """How a test of two measures is called."""
    return f"{pair[0]} and {pair[1]}"


def scores(world: str, question: Question) -> dict[str, float]:
    """Mean of every explainer, better ones higher."""
    found = planted_audits.report(world)
    means = {name: planted_audits.score(found, question, name).mean for name in planted_audits.EXPLAINERS}
    sign = 1 if question.higher_is_better else -1
    return {name: sign * mean for name, mean in means.items() if mean is not None}


def agreement(world: str, one: Question, other: Question) -> float:
    """Of the pairs of explainers that both measures tell apart, the share that they order alike."""
    first, second = scores(world, one), scores(world, other)
    alike = []
    for a, b in combinations(planted_audits.EXPLAINERS, 2):
        here, there = first[a] - first[b], second[a] - second[b]
        if abs(here) > one.apart and abs(there) > other.apart:
            alike.append(here * there > 0)
    assert len(alike) >= LEAST_PAIRS
    return sum(alike) / len(alike)


@pytest.mark.parametrize("world", ["color", "texture"])
@pytest.mark.parametrize("pair", list(combinations(REMOVAL, 2)), ids=named)
def test_measures_by_removal_never_contradict_each_other(world: str, pair: tuple[Question, Question]) -> None:
    assert agreement(world, *pair) == 1


@pytest.mark.parametrize("world", ["color", "texture"])
@pytest.mark.parametrize("pair", list(combinations(LOCALIZATION, 2)), ids=named)
def test_measures_of_localization_rarely_contradict_each_other(world: str, pair: tuple[Question, Question]) -> None:
    """A wide map that covers the patch has much heat inside and a large box: they do not ask quite the same."""
    assert agreement(world, *pair) >= 0.9


@pytest.mark.parametrize("world", ["color", "texture"])
@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_random_maps_are_the_last(world: str, question: Question) -> None:
    ranked = sorted(scores(world, question).items(), key=lambda item: item[1])
    assert {name for name, _ in ranked[:4]} >= {"wrong", "random"}
