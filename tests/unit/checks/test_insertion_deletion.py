"""Insertion and deletion games against one pass at a time, the authors' loop, and their known bugs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

import digits
import reference
from auditcore.checks.insertion_deletion import compute
from auditcore.contracts.checks import Game, InsertionDeletionCheck, accuracy_metric
from auditcore.contracts.explainers import Explainer, GradCam, Gradient, GuidedBackpropagation, InputXGradient, Random
from auditcore.contracts.shards import Measurement
from auditcore.contracts.significance import VALUE_DIGITS, significant
from auditcore.models.classifier import Classifier
from naive_removal import (
    UNTOUCHED,
    ConstantNet,
    CountingNet,
    Found,
    exchange_curve,
    found_in,
    group_of,
    naive,
    raw,
    relevance_order,
    run,
    untouched_pixels,
)

GAMES: tuple[Game, ...] = get_args(Game)


def by_name(measured: Sequence[Measurement]) -> Found:
    return {(one.metric, one.explainer): one for one in measured}


def gaussian(pixels: np.ndarray) -> np.ndarray:
    """11 x 11 with sigma 5, cut off and scaled to sum 1, the image mirrored at its border."""
    weights = np.exp(-0.5 * (np.arange(-5, 6) / 5.0) ** 2)
    weights /= weights.sum()
    return correlate1d(correlate1d(pixels, weights, axis=1, mode="mirror"), weights, axis=2, mode="mirror")


@pytest.mark.parametrize(
    ("explainer", "rank_by", "reduce"),
    [(Gradient(), "auto", "sum"), (InputXGradient(), "signed", "sum"), (GradCam(), "auto", "mean")],
    ids=lambda value: getattr(value, "kind", value),
)
def test_insertion_deletion(digit_classifier: Classifier, explainer: Explainer, rank_by: str, reduce: str) -> None:
    check = InsertionDeletionCheck.model_validate(
        {"games": GAMES, "pixels_per_step": 100, "rank_by": rank_by, "reduce": reduce}
    )
    images = digits.encoded(2)
    found = found_in(run(digit_classifier, check, (explainer,), images))
    counts = reference.removal_counts(32 * 32, 100, "1")
    assert (len(counts), counts[-2:]) == (12, [1000, 1024])
    for position, image in enumerate(images):
        slow = naive(digit_classifier, image)
        zero = np.broadcast_to(np.array(digits.PREPROCESSING.mean)[:, None, None], slow.pixels.shape)
        fills = {"zero": zero, "black": np.zeros_like(slow.pixels), "blur": gaussian(slow.pixels)}
        for each in (explainer, Random()):
            order = relevance_order(slow, check, each)
            for game in GAMES:
                kind, fill = game.split("_")
                pair = (slow.pixels, fills[fill]) if kind == "deletion" else (fills[fill], slow.pixels)
                curve = exchange_curve(slow, *pair, order, counts)
                measured = found[game, each.kind]
                assert measured.values[position] == pytest.approx(
                    reference.insertion_deletion_auc(curve), rel=1e-4, abs=1e-6
                ), game
                assert measured.curve is not None
                assert measured.curve.values[position] == pytest.approx(curve, rel=1e-4, abs=1e-6), game
                assert measured.curve.x == pytest.approx([count / 1024 for count in counts])
                steps = [
                    float(np.argmax(slow._logits(reference.exchanged(*pair, order[:count]))) == slow.target)
                    for count in counts
                ]
                accuracy = found[accuracy_metric(game), each.kind]
                assert accuracy.curve is not None
                assert accuracy.curve.values[position] == tuple(steps), game
                assert accuracy.curve.x == measured.curve.x
                area = significant(reference.insertion_deletion_auc(steps), VALUE_DIGITS)
                assert accuracy.values[position] == area
                assert accuracy.control == measured.control == (each.kind == "random")


def test_ties_are_ordered_by_the_images_own_stream() -> None:
    # black stays 0, so that input x gradient is 0 on the background, which the blur brightens
    classifier = Classifier(digits.trained(), preprocessing=raw(32))
    check = InsertionDeletionCheck(pixels_per_step=150, games=("deletion_blur",))
    found = found_in(run(classifier, check, (InputXGradient(),), digits.encoded(2)))
    counts = reference.removal_counts(32 * 32, 150, "1")
    for position, image in enumerate(digits.encoded(2)):
        slow = naive(classifier, image)
        order = relevance_order(slow, check, InputXGradient())
        curve = exchange_curve(slow, slow.pixels, gaussian(slow.pixels), order, counts)
        measured = found["deletion_blur", "input_x_gradient"].curve
        assert measured is not None
        assert measured.values[position] == pytest.approx(curve, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("fill", ["zero", "black"])
def test_games_agree_with_the_authors_loop(digit_classifier: Classifier, fill: str) -> None:
    # CausalMetric.single_run of RISE's evaluation.py, whose substrate is zeros of the normalized tensor. Its blurred
    # substrate differs from ours at the borders of kernel and image (a folded kernel, zero padding), and so does that
    # of Xplique, which scores logits besides: only the replica above covers blur.
    step = 150
    games = (f"deletion_{fill}", f"insertion_{fill}")
    check = InsertionDeletionCheck.model_validate({"pixels_per_step": step, "games": games, "rank_by": "signed"})
    pixels = digits.digit_pixels()[0][3:6]
    group = group_of(digit_classifier, pixels, (Gradient(),), targets=(3, 4, 5))
    found = {(m.metric, m.explainer): m for m in compute(check, group, {})}
    maps = group.original(Gradient()).maps.double().sum(dim=1).flatten(1).numpy()
    for position in range(3):
        normalized = digit_classifier.normalize(pixels[position : position + 1])
        order = np.flip(np.argsort(maps[position]))
        for mode in ("deletion", "insertion"):
            start, finish = normalized.clone(memory_format=torch.contiguous_format), torch.zeros(1, 3, 32, 32)
            if fill == "black":
                finish = digit_classifier.normalize(finish)
            if mode == "insertion":
                start, finish = finish, start
            n_steps = (32 * 32 + step - 1) // step
            scores, right = np.empty(n_steps + 1), np.empty(n_steps + 1)
            for i in range(n_steps + 1):
                with torch.no_grad():
                    told = digit_classifier.module(start).softmax(dim=1)
                scores[i], right[i] = told[0, 3 + position].item(), told.argmax().item() == 3 + position
                coords = order[step * i : step * (i + 1)].copy()
                start.reshape(1, 3, -1)[0, :, coords] = finish.reshape(1, 3, -1)[0, :, coords]
            auc = (scores.sum() - scores[0] / 2 - scores[-1] / 2) / (scores.shape[0] - 1)
            assert found[f"{mode}_{fill}", "gradient"].values[position] == pytest.approx(auc, rel=1e-4, abs=1e-6)
            # the same area of right answers
            area = (right.sum() - right[0] / 2 - right[-1] / 2) / (right.shape[0] - 1)
            assert found[f"{mode}_{fill}_accuracy", "gradient"].values[position] == significant(area, VALUE_DIGITS)


def test_deletion_ends_where_insertion_begins(digit_classifier: Classifier) -> None:
    check = InsertionDeletionCheck(pixels_per_step=256, games=GAMES)
    group = group_of(digit_classifier, digits.digit_pixels()[0][:2], (Gradient(),))
    curves = {(m.metric, m.explainer): m.curve for m in compute(check, group, {})}
    for explainer in ("gradient", "random"):
        for fill in ("zero", "black", "blur", "zero_accuracy", "black_accuracy", "blur_accuracy"):
            deletion, insertion = curves[f"deletion_{fill}", explainer], curves[f"insertion_{fill}", explainer]
            assert deletion is not None
            assert insertion is not None
            for position, original in enumerate(group.probabilities.tolist()):
                gone, come = deletion.values[position], insertion.values[position]
                assert gone is not None
                assert come is not None
                assert gone[-1] == come[0]
                predicted = float(group.predicted[position])
                expected = predicted if fill.endswith("accuracy") else significant(original, VALUE_DIGITS)
                assert gone[0] == come[-1] == expected


def test_ends_of_curves_are_passed_once(digit_classifier: Classifier) -> None:
    group = group_of(digit_classifier, digits.digit_pixels()[0][:3], (Gradient(), GradCam()))
    for explainer in (*group.able, *group.controls):
        group.original(explainer)
    before = digit_classifier.ledger.forward_images
    compute(InsertionDeletionCheck(pixels_per_step=256, games=GAMES), group, {})
    # three points inside each of six curves of two explainers and the control; two colors, three blurred images
    assert digit_classifier.ledger.forward_images - before == 3 * 3 * 6 * 3 + 2 + 3


def test_every_step_exchanges_exactly_its_pixels_in_all_channels() -> None:
    # aliased curve steps (the authors' own `.cpu().numpy()` write, InputIBA's), channel values counted as pixels, a
    # threshold that takes all of a sparse map, a start taken from the image as the last run left it
    classifier = Classifier(CountingNet(12), preprocessing=raw(12))
    group = group_of(classifier, torch.full((2, 3, 12, 12), UNTOUCHED), (Gradient(),))
    check = InsertionDeletionCheck(pixels_per_step=50, games=("deletion_zero", "insertion_zero"))
    for _ in range(2):
        for measured in compute(check, group, {}):
            assert measured.curve is not None
            if measured.metric.endswith("accuracy"):
                continue
            gone = [0, 50, 100, 144] if measured.metric == "insertion_zero" else [144, 94, 44, 0]
            for row in measured.curve.values:
                assert row is not None
                assert untouched_pixels(row, 144) == pytest.approx(gone, abs=1e-2)


def test_scores_do_not_depend_on_batches_shards_or_other_explainers(digit_classifier: Classifier) -> None:
    check = InsertionDeletionCheck(pixels_per_step=180, games=GAMES)
    names = [name for game in GAMES for name in (game, accuracy_metric(game))]
    images = digits.encoded(3)
    whole = found_in(run(digit_classifier, check, (Gradient(), GradCam()), images))
    for micro_batch in (1, 3, 7):
        other = found_in(run(digit_classifier, check, (GradCam(),), images, micro_batch=micro_batch))
        for key, measured in other.items():
            if key[0] in names:
                assert measured.values == pytest.approx(whole[key].values, rel=1e-5, abs=1e-7)
    shards = [found_in(run(digit_classifier, check, (Gradient(),), part)) for part in (images[:1], images[1:])]
    for name in names:
        for explainer in ("gradient", "random"):
            values = [value for shard in shards for value in shard[name, explainer].values]
            assert values == pytest.approx(whole[name, explainer].values, rel=1e-5, abs=1e-7)


def test_a_constant_map_is_not_applicable() -> None:
    group = group_of(Classifier(ConstantNet(), preprocessing=raw(8)), torch.rand(2, 3, 8, 8), (Gradient(),))
    found = {(m.metric, m.explainer): m for m in compute(InsertionDeletionCheck(games=GAMES), group, {})}
    for game in GAMES:
        for name in (game, accuracy_metric(game)):
            assert found[name, "gradient"].values == (None, None)
            assert "gives no order" in found[name, "gradient"].reasons[1]
        assert found[accuracy_metric(game), "random"].values == (1.0, 1.0)
        assert found[game, "random"].values == pytest.approx([float(np.e**2 / (1 + np.e**2))] * 2, rel=1e-5)
        assert found[game, "random"].control


def test_explainers_that_cannot_run_are_listed_under_the_games_of_the_plan_only() -> None:
    classifier = Classifier(CountingNet(8), preprocessing=raw(8))
    check = InsertionDeletionCheck(games=("insertion_blur",))
    found = run(classifier, check, (GuidedBackpropagation(),), digits.encoded(1)).measurements
    assert {(m.metric, m.explainer, m.values[0] is None) for m in found} == {
        (name, explainer, explainer != "random")
        for name in ("insertion_blur", "insertion_blur_accuracy")
        for explainer in ("guided_backpropagation", "random")
    }


def test_accuracy_of_adaptive_curves_is_not_applicable(digit_classifier: Classifier) -> None:
    check = InsertionDeletionCheck(games=("deletion_black", "insertion_zero"), pixels_per_step=10, curve="adaptive")
    group = group_of(digit_classifier, digits.digit_pixels()[0][:2], (Gradient(),))
    for measured in compute(check, group, {}):
        if measured.metric.endswith("accuracy"):
            assert measured.values == (None, None)
            assert "adaptive" in measured.reasons[0]
            assert measured.curve is None
            assert measured.error is None
        else:
            assert measured.values[0] is not None
            assert measured.error is not None


def test_the_target_of_a_multi_label_model_is_predicted_from_one_half() -> None:
    classifier = Classifier(CountingNet(12), preprocessing=raw(12), scores="sigmoid")
    group = group_of(classifier, torch.full((1, 3, 12, 12), UNTOUCHED), (Random(),), targets=(1,))
    found = by_name(compute(InsertionDeletionCheck(pixels_per_step=50, games=("deletion_zero",)), group, {}))
    # its logit is 0 throughout: one half, though another class is more probable until all pixels are gone
    assert found["deletion_zero", "random"].values == pytest.approx([0.5])
    assert found["deletion_zero_accuracy", "random"].values == (1.0,)
    other = Classifier(CountingNet(12), preprocessing=raw(12))
    group = group_of(other, group.pixels, (Random(),), targets=(1,))
    found = by_name(compute(InsertionDeletionCheck(pixels_per_step=50, games=("deletion_zero",)), group, {}))
    # at the end both are equal, and the first class counts as the most probable one
    assert found["deletion_zero_accuracy", "random"].values == (0.0,)
