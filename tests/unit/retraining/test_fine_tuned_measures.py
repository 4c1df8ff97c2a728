from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from pydantic import ValidationError

import auditcore
import deciding_patch as world
import reference_retraining
from auditcore.contracts.explainers import GradCam, Gradient, InputXGradient
from auditcore.contracts.retraining.f_fidelity import FFidelityPlan, FFidelityReport, FFidelityRequest
from auditcore.contracts.retraining.idsds import IdsdsPlan, IdsdsReport, IdsdsRequest
from auditcore.contracts.retraining.measured_images import MeasuredExplainer
from auditcore.errors import AuditCancelled, BudgetTooSmall, InvalidRequest, ModelNotTrainable, UnsafeReference
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from auditcore.models.loading import load_classifier
from auditcore.random_numbers.streams import Streams
from auditcore.training.labeled_images import LabeledImages, read_labeled

TRAINING, MEASURED = world.images(96, 1), world.images(12, 3)
GRAY = (0.5, 0.5, 0.5)
EXPLAINERS = (world.ORACLE, world.INVERTED, InputXGradient())
SIZES = (0.0625, 0.25)
SAMPLES = 6


def f_fidelity(plan: FFidelityPlan, *, model: Any = None, budget_seconds: float | None = None, **how: Any) -> Any:
    request = FFidelityRequest(
        model=model or world.model(), images=world.STORED, plan=plan, budget_seconds=budget_seconds
    )
    return auditcore.f_fidelity(request, **{"images": TRAINING, "validation": MEASURED, "access": world.ACCESS} | how)


def idsds(plan: IdsdsPlan, *, model: Any = None, **how: Any) -> Any:
    request = IdsdsRequest(model=model or world.model(), images=world.STORED, plan=plan)
    return auditcore.idsds(request, **{"images": TRAINING, "validation": MEASURED, "access": world.ACCESS} | how)


def fidelity_plan(**fields: Any) -> FFidelityPlan:
    return FFidelityPlan.model_validate(
        {"explainers": EXPLAINERS, "training": world.training(), "sizes": SIZES, "samples": SAMPLES} | fields
    )


def idsds_plan(**fields: Any) -> IdsdsPlan:
    return IdsdsPlan.model_validate({"explainers": EXPLAINERS, "training": world.training()} | fields)


def row(report: FFidelityReport | IdsdsReport, explainer: str, metric: str = "idsds") -> MeasuredExplainer:
    (found,) = [one for one in report.results if (one.explainer, one.metric) == (explainer, metric)]
    return found


def with_weights(measure: Callable[..., Any], plan: Any) -> Any:
    """The report, and the fine-tuned weights that are kept."""
    with tempfile.TemporaryDirectory() as folder:
        return measure(plan, out=Path(folder)), (Path(folder) / "weights" / "fine_tuned.safetensors").read_bytes()


@functools.cache
def fidelity() -> tuple[FFidelityReport, bytes]:
    return with_weights(f_fidelity, fidelity_plan())


@functools.cache
def deletions() -> tuple[IdsdsReport, bytes]:
    return with_weights(idsds, idsds_plan())


def linear(weights: bytes) -> reference_retraining.Predict:
    """The network in float64, written out: mean colors of patches, and a linear function."""
    named = {name: value.astype(np.float64) for name, value in safetensors.numpy.load(weights).items()}

    def predict(image: np.ndarray) -> np.ndarray:
        normalized = (image - 0.5) / 0.25
        means = normalized.reshape(3, 4, 4, 4, 4).mean(axis=(2, 4)).ravel()
        logits: np.ndarray = named["2.weight"] @ means + named["2.bias"]
        return logits

    return predict


@functools.cache
def measured() -> LabeledImages:
    classifier: Classifier = load_classifier(world.model(), access=world.ACCESS)
    found, _ = read_labeled(MEASURED, use="validation", model=classifier, limits=world.ACCESS.limits)
    return found


def pixels(image: int) -> np.ndarray:
    return measured().pixels([image])[0].double().numpy()


# F-Fidelity


def test_an_explanation_that_holds_the_patch_is_faithful_and_others_are_not() -> None:
    report, _ = fidelity()
    plus, minus = "f_fidelity_plus_probability", "f_fidelity_minus_probability"
    for explainer in ("oracle", "input_x_gradient"):
        for metric in (plus, minus):
            gain = row(report, explainer, metric).gain
            assert gain is not None
            assert gain.ci is not None
            # better than chance by more than the interval
            assert gain.ci[0] > 0, (explainer, metric)
    assert row(report, "inverted", plus).score.mean < row(report, "random", plus).score.mean  # type: ignore[operator]
    assert row(report, "random", plus).gain is None
    assert row(report, "random", plus).control
    assert not row(report, "oracle", minus).higher_is_better


def test_f_fidelity_is_that_of_a_loop_over_images_samples_and_pixels() -> None:
    report, weights = fidelity()
    predict = linear(weights)
    inside = np.zeros((16, 16), dtype=bool)
    inside[world.PATCH] = True
    for image in range(4):
        streams = Streams(0, (measured().digests[image],))
        ties = streams.uniform((256,), "retraining/ties")[0].numpy()
        lotteries = [streams.uniform((256,), "f_fidelity/masks", sample)[0].numpy() for sample in range(SAMPLES)]
        order = sorted(range(256), key=lambda pixel: (-float(inside.flat[pixel]), -ties[pixel]))
        label = MEASURED[image].labels[0]
        for plus in (True, False):
            found = [
                reference_retraining.f_fidelity(
                    predict,
                    pixels(image),
                    order,
                    label,
                    size_percent=100 * size,
                    alpha=0.5,
                    beta=0.1,
                    lotteries=lotteries,
                    color=GRAY,
                    plus=plus,
                )
                for size in SIZES
            ]
            accuracy, probability = np.mean(found, axis=0)
            sign = "plus" if plus else "minus"
            scores = [row(report, "oracle", f"f_fidelity_{sign}_{kind}") for kind in ("accuracy", "probability")]
            assert scores[0].score.values[image] == pytest.approx(accuracy, abs=1e-5)
            assert scores[1].score.values[image] == pytest.approx(probability, abs=2e-5)


def test_the_order_of_an_explanation_is_that_of_its_map() -> None:
    report, weights = fidelity()
    # the target of class 1 minus that of class 0 only matters through the logit of the target itself
    named = safetensors.numpy.load(weights)["2.weight"].reshape(2, 3, 4, 4)
    image, label = 1, MEASURED[1].labels[0]
    slopes = np.repeat(np.repeat(named[label], 4, axis=1), 4, axis=2) / 16
    magnitude = np.abs((pixels(image) - 0.5) / 0.25 * slopes).max(axis=0)
    streams = Streams(0, (measured().digests[image],))
    lotteries = [streams.uniform((256,), "f_fidelity/masks", sample)[0].numpy() for sample in range(SAMPLES)]
    order = np.argsort(-magnitude.ravel(), kind="stable")
    found = reference_retraining.f_fidelity(
        linear(weights),
        pixels(image),
        order.tolist(),
        label,
        size_percent=25,
        alpha=0.5,
        beta=0.1,
        lotteries=lotteries,
        color=GRAY,
        plus=True,
    )
    one = f_fidelity(fidelity_plan(explainers=(InputXGradient(),), sizes=(0.25,)))
    assert row(one, "input_x_gradient", "f_fidelity_plus_probability").ranked_by == "magnitude"
    value = row(one, "input_x_gradient", "f_fidelity_plus_probability").score.values[image]
    assert value == pytest.approx(found[1], abs=2e-4)
    assert report.plan_digest != one.plan_digest


def test_counted_passes_of_fine_tuned_measures_are_those_of_the_formula() -> None:
    for report in (fidelity()[0], deletions()[0]):
        assert report.cost.trainings == report.estimate.trainings == 1
        assert report.cost.forward_images == report.estimate.forward_images
        assert report.cost.backward_images == report.estimate.backward_images


def test_where_no_pixel_would_be_removed_there_is_no_value() -> None:
    # half of two pixels is one, half of one is none
    report = f_fidelity(fidelity_plan(explainers=(world.ORACLE,), sizes=(0.004, 0.008)))
    curve = row(report, "oracle", "f_fidelity_plus_probability").curve
    assert [point.n for point in curve] == [0, len(MEASURED)]
    none = f_fidelity(fidelity_plan(explainers=(world.ORACLE, world.FLAT), sizes=(0.004,)))
    undefined = row(none, "oracle", "f_fidelity_plus_probability").score
    assert undefined.mean is None
    assert set(undefined.values) == {None}
    assert "raise `alpha_plus`" in undefined.reasons[0]
    assert "gives no order" in row(none, "flat", "f_fidelity_minus_accuracy").score.reasons[0]


def test_the_given_model_may_explain_the_fine_tuned_one() -> None:
    gradients = (InputXGradient(),)
    tuned = f_fidelity(fidelity_plan(explainers=gradients))
    given = f_fidelity(fidelity_plan(explainers=gradients, explained_model="given"))
    assert given.explained.digest != given.model.digest
    assert tuned.explained == tuned.model == given.model
    metric = "f_fidelity_plus_probability"
    # a map of random weights explains the fine-tuned model worse
    assert row(given, "input_x_gradient", metric).score.mean < row(tuned, "input_x_gradient", metric).score.mean


# IDSDS


def test_the_map_of_a_linear_model_says_exactly_what_patches_add() -> None:
    report, _ = deletions()
    exact = row(report, "input_x_gradient")
    assert exact.score.values == (1.0,) * len(MEASURED)
    assert exact.score.ci is not None
    assert exact.score.ci[1] == 1
    by_value = idsds(idsds_plan(explainers=(InputXGradient(),), correlation="pearson"))
    assert min(row(by_value, "input_x_gradient").score.values) > 0.9999
    assert row(report, "oracle").score.mean == pytest.approx(-row(report, "inverted").score.mean)  # type: ignore[operator]
    gain = row(report, "input_x_gradient").gain
    assert gain is not None
    assert gain.ci is not None
    assert gain.ci[0] > 0


def test_idsds_is_that_of_a_loop_over_patches() -> None:
    report = idsds(idsds_plan(explainers=(Gradient(),)))
    again, weights = deletions()
    assert again.model.digest == report.model.digest
    slopes = safetensors.numpy.load(weights)["2.weight"].reshape(2, 3, 4, 4).astype(np.float64)
    for image in range(len(MEASURED)):
        label = MEASURED[image].labels[0]
        relevance = np.repeat(np.repeat(slopes[label], 4, axis=1), 4, axis=2) / 16 / 0.25
        expected = reference_retraining.idsds(linear(weights), pixels(image), relevance, label, grid=4, color=GRAY)
        assert row(report, "gradient").score.values[image] == pytest.approx(expected, abs=1e-5)


def test_undefined_scores_are_null_with_their_reason() -> None:
    report = idsds(idsds_plan(explainers=(world.FLAT, GradCam())))
    flat = row(report, "flat").score
    assert flat.mean is None
    assert flat.n == 0
    assert "same relevance" in flat.reasons[0]
    gain = row(report, "flat").gain
    assert gain is not None
    assert gain.mean is None
    assert set(report.not_applicable) == {"grad_cam"}


# both


def test_one_fine_tuning_serves_both_measures(tmp_path: Path) -> None:
    report, weights = fidelity()
    path = tmp_path / "tuned.safetensors"
    path.write_bytes(weights)
    access = world.ACCESS.model_copy(update={"file_roots": (tmp_path,)})
    how: dict[str, Any] = {"model": world.model(path.as_uri()), "access": access}
    again = f_fidelity(fidelity_plan(training=None), **how)
    assert again.results == report.results
    assert again.model.digest == report.model.digest
    assert again.training is None
    assert again.cost.trainings == 0
    assert report.training is not None
    assert report.training.trained.record.digest == report.model.digest
    # without validation images, nothing is held out
    scored = idsds(idsds_plan(training=None), images=MEASURED, validation=None, **how)
    assert scored.results == deletions()[0].results


def test_the_same_seed_gives_the_same_numbers() -> None:
    report, weights = fidelity()
    again, kept = with_weights(f_fidelity, fidelity_plan())
    assert kept == weights
    assert again.results == report.results
    assert f_fidelity(fidelity_plan(seed=1)).results != report.results


def test_copies_of_an_image_count_once() -> None:
    copies: list[EncodedImage] = [*MEASURED, MEASURED[0]]
    report = idsds(idsds_plan(), validation=copies)
    assert row(report, "random").score.n == len(MEASURED)
    assert len(row(report, "random").score.values) == len(copies)


def test_fine_tuned_measures_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    time = iter(range(10**9))
    with pytest.raises(BudgetTooSmall, match="1 trainings"):
        f_fidelity(fidelity_plan(), budget_seconds=5, clock=lambda: float(next(time)), out=tmp_path)
    # nothing is trained
    assert [path.name for path in tmp_path.iterdir()] == ["request.json"]


def test_progress_rises_to_one_and_may_cancel() -> None:
    shares: list[float] = []
    idsds(idsds_plan(), progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1

    def cancel(share: float) -> None:
        if share > 0.9:
            raise AuditCancelled

    with pytest.raises(AuditCancelled):
        idsds(idsds_plan(), progress=cancel)


def test_requests_that_cannot_be_carried_out_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="softmax"):
        idsds(idsds_plan(), model=world.model(scores="sigmoid"))
    with pytest.raises(InvalidRequest, match="at most 16") as grid:
        idsds(idsds_plan(grid=20))
    assert grid.value.field == "plan.grid"
    with pytest.raises(UnsafeReference, match="not allowed"):
        idsds(idsds_plan(), access=world.ACCESS.model_copy(update={"explainers": ()}))
    server = auditcore.OpenInferenceModel(
        url="http://models:8000", name="m", outputs="logits", preprocessing=world.PREPROCESSING
    )
    with pytest.raises(ModelNotTrainable, match="cannot be trained"):
        idsds(idsds_plan(), model=server)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sizes": (0.5, 0.1)}, "ascend"),
        ({"sizes": (1.0,)}, "less than 1"),
        ({"beta": 0}, "greater than 0"),
        ({"training": None, "explained_model": "given"}, "leave `explained_model` out"),
    ],
)
def test_f_fidelity_plans_that_contradict_themselves_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        fidelity_plan(**fields)


def test_fine_tuning_with_random_masks_is_the_default_and_what_it_did_not_show_is_noted() -> None:
    default = FFidelityPlan(explainers=EXPLAINERS).training
    assert default is not None
    few = default.model_copy(update={"epochs": 4, "batch_size": 16, "optimizer": world.training().optimizer})
    report = f_fidelity(fidelity_plan(training=few))
    assert report.notes == ()
    gain = row(report, "oracle", "f_fidelity_plus_probability").gain
    assert gain is not None
    assert gain.ci is not None
    assert gain.ci[0] > 0
    assert "random_masks" in fidelity()[0].notes[-1]
    assert "new to the model" in fidelity_plan(training=few, beta=0.3).notes[0]
    patches = IdsdsPlan(explainers=EXPLAINERS)
    assert patches.notes == ()
    assert "grid" in patches.model_copy(update={"grid": 5}).notes[0]
    assert idsds_plan().notes == deletions()[0].notes[-1:]
    assert idsds_plan(training=None).notes == ()


def test_reports_survive_a_round_trip() -> None:
    for report in (fidelity()[0], deletions()[0]):
        assert type(report).model_validate(json.loads(report.model_dump_json())) == report
