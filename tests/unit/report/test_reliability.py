"""Whether models order the explainers alike: by hand, Kendall's W against scipy's Friedman test, ties and gaps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

import reference
from auditcore.contracts.report import MeasureReliability
from auditcore.errors import ShapeError
from auditcore.metrics.concordance import kendall_w
from made_up_audits import NAMES, report, row, shard

EXPLAINERS = ("gradient", "input_x_gradient", "grad_cam")


def reliability(*means: tuple[float | None, ...], **changes: Any) -> MeasureReliability:
    """Of models that give the three explainers these means on one image."""
    (found,) = report(
        *(
            shard(model, {0: [1]}, *(row(name, [mean], **changes) for name, mean in zip(EXPLAINERS, own, strict=True)))
            for model, own in zip(NAMES, means, strict=False)
        )
    ).reliability
    assert (found.scope, found.architecture) == ("all_models", None)
    return found


def test_the_same_order_is_reliable_for_any_values() -> None:
    found = reliability((0.1, 0.3, 0.2), (0.5, 0.9, 0.6), (-1.0, 7.0, 0.0))
    assert (found.check, found.metric, found.variant) == ("deletion", "srg", None)
    assert (found.reliable, found.kendall_w, found.discordant) == (True, 1.0, ())
    assert found.orders == dict.fromkeys(NAMES, ("input_x_gradient", "grad_cam", "gradient"))


def test_one_swap_is_unreliable_and_named() -> None:
    found = reliability((0.1, 0.3, 0.2), (0.1, 0.2, 0.3))
    assert (found.reliable, found.discordant) == (False, (("input_x_gradient", "grad_cam"),))
    assert found.orders["two"] == ("grad_cam", "input_x_gradient", "gradient")
    # rank sums 2, 5, 5: 12 * 6 / (4 * 24)
    assert found.kendall_w == 0.75


@pytest.mark.parametrize(("higher_is_better", "best"), [(True, "grad_cam"), (None, "grad_cam"), (False, "gradient")])
def test_the_best_comes_first(higher_is_better: bool | None, best: str) -> None:  # noqa: FBT001
    found = reliability((0.1, 0.2, 0.3), (0.1, 0.2, 0.3), higher_is_better=higher_is_better)
    assert found.orders["one"][0] == best
    assert found.kendall_w == 1


def test_opposite_orders_agree_in_nothing() -> None:
    found = reliability((0.1, 0.2, 0.3), (0.3, 0.2, 0.1))
    assert (found.reliable, found.kendall_w, len(found.discordant)) == (False, 0.0, 3)


def test_a_tie_on_only_one_model_is_a_different_order() -> None:
    found = reliability((0.1, 0.2, 0.3), (0.1, 0.3, 0.3))
    assert (found.reliable, found.discordant) == (False, (("input_x_gradient", "grad_cam"),))
    assert reliability((0.1, 0.3, 0.3), (0.2, 0.9, 0.9)).reliable is True


@pytest.mark.parametrize("means", [((0.5, 0.5, 0.5), (0.2, 0.2, 0.2)), ((0.5, None, None), (0.2, 0.3, 0.4))])
def test_without_two_that_differ_there_is_no_order(means: tuple[tuple[float | None, ...], ...]) -> None:
    found = reliability(*means)
    assert (found.reliable, found.kendall_w, found.discordant) == (None, None, ())


def test_explainers_that_one_model_has_no_mean_for_are_left_out() -> None:
    found = reliability((0.1, None, 0.2), (0.5, 0.9, 0.6))
    assert found.orders == dict.fromkeys(("one", "two"), ("grad_cam", "gradient"))
    assert (found.reliable, found.kendall_w) == (True, 1.0)


def of_architectures(
    structures: tuple[str | None, ...], rights: tuple[int, ...] = (1, 1, 1), *, labelled: bool = True
) -> tuple[MeasureReliability, ...]:
    """Reliability over three models with these structures, of which so many of three labelled images are right.

    The order of the explainers is the same for the first and the third model, and another one for the second.
    """
    means = ((0.1, 0.3, 0.2), (0.3, 0.1, 0.2), (0.5, 0.9, 0.6))
    shards = []
    for name, structure, right, own in zip(NAMES, structures, rights, means, strict=True):
        found = shard(name, {0: [1], 1: [1], 2: "wrong"}, *(
            row(explainer, [mean, mean]) for explainer, mean in zip(EXPLAINERS, own, strict=True)
        ))  # fmt: skip
        records = tuple(
            one.model_copy(update={"label": 1 if labelled else None, "predicted": 1 if one.index < right else 2})
            for one in found.images
        )
        model = found.model.model_copy(update={"structure": structure})
        shards.append(found.model_copy(update={"images": records, "model": model}))
    return report(*shards).reliability


A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def test_definition_5_1_applies_within_one_architecture_by_ascending_accuracy() -> None:
    every, first = of_architectures((A, B, A), (3, 1, 2))
    assert (every.scope, every.architecture, every.models) == ("all_models", None, ("two", "three", "one"))
    assert (every.reliable, every.discordant[0]) == (False, ("gradient", "input_x_gradient"))
    assert (first.scope, first.models) == ("architecture", ("three", "one"))
    assert first.architecture is not None
    assert first.architecture.endswith("structure aaaaaaaa")
    # the second model, which disagrees, is of another architecture
    assert (first.reliable, first.kendall_w, first.discordant) == (True, 1.0, ())
    assert list(first.orders) == ["three", "one"]


def test_models_of_one_architecture_that_disagree_are_unreliable_there() -> None:
    every, one = of_architectures((A, A, A), (2, 3, 1))
    assert (every.reliable, one.reliable) == (False, False)
    assert every.models == one.models == ("three", "one", "two")
    assert (every.kendall_w, every.discordant) == (one.kendall_w, one.discordant)


@pytest.mark.parametrize("structures", [(A, B, "sha256:" + "c" * 64), (None, None, None), (A, None, B)])
def test_without_two_models_of_an_architecture_the_definition_does_not_apply(
    structures: tuple[str | None, ...],
) -> None:
    assert [found.scope for found in of_architectures(structures)] == ["all_models"]


def test_without_labels_models_keep_the_order_of_the_request() -> None:
    every, _ = of_architectures((A, A, A), (2, 3, 1), labelled=False)
    assert every.models == NAMES


def test_controls_and_properties_of_the_model_are_not_ordered() -> None:
    found = report(
        *(
            shard(
                model,
                {0: [1]},
                row(None, [0.5], check="sweep", metric="probability_score", variant="rotate"),
                row("random", [noise]),
                row("gradient", [0.5]),
                row("grad_cam", [0.25]),
                row("gradient", [noise], metric="lerf_auc", control=True),
            )
            for model, noise in (("one", 0.1), ("two", 0.9))
        )
    ).reliability
    assert [(one.metric, one.reliable, one.orders["one"]) for one in found] == [("srg", True, ("gradient", "grad_cam"))]


# --- Kendall's W ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_concordance_is_scipys_friedman_statistic(seed: int) -> None:
    # few different values make ties
    scores = np.random.default_rng(seed).integers(0, 5, (4, 6)).astype(np.float64)
    friedman = stats.friedmanchisquare(*scores.T).statistic
    assert kendall_w(scores) == pytest.approx(friedman / (4 * 5), rel=1e-12)
    assert kendall_w(scores) == pytest.approx(reference.kendall_w(scores.tolist()), rel=1e-12)


def test_concordance_depends_only_on_order() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 7))
    assert kendall_w(scores) == kendall_w(np.exp(3 * scores)) == pytest.approx(kendall_w(-scores), rel=1e-12)
    assert kendall_w(scores) == pytest.approx(kendall_w(scores[:, ::-1][::-1]), rel=1e-12)


def test_concordance_of_judges_without_preference_is_undefined() -> None:
    assert math.isnan(kendall_w(np.ones((3, 4))))


@pytest.mark.parametrize("shape", [(1, 4), (4, 1)])
def test_concordance_needs_two_judges_and_two_items(shape: tuple[int, int]) -> None:
    with pytest.raises(ShapeError):
        kendall_w(np.zeros(shape))


def test_an_order_names_its_number_of_images() -> None:
    def model(name: str, *gradient: float | None) -> Any:
        others = [0.5] * len(gradient)
        images = {index: [1] for index in range(len(gradient))}
        return shard(name, images, row("gradient", list(gradient)), row("grad_cam", others))

    (found,) = report(model(NAMES[0], 0.1, 0.2, 0.3), model(NAMES[1], 0.1, None, 0.3)).reliability
    assert found.n == 2
