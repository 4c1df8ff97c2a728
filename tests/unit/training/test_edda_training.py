"""EDDA: which masked copies join a batch, and what the network learns from them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import one_hot

import explained_batches
import reference_training
import small_trainings
from auditcore import Edda, GradCam, Gradient, Random, Saliency
from auditcore.contracts.models import Scores
from auditcore.metrics.faithfulness import threshold_masks
from auditcore.training.method import TrainingBatch
from auditcore.training.methods.edda import EddaTraining, MaskedImages, masked_images
from auditcore.training.network import Network


def added(contract: Edda, own: Network | None = None, **changes: object) -> MaskedImages:
    return masked_images(contract, own or explained_batches.network(), explained_batches.batch(**changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("color", ["black", "mean"])
@pytest.mark.parametrize("taus", [(0.5, 0.5), (0.2, 0.3)])
def test_the_same_copies_join_as_in_the_replica(taus: tuple[float, float], color: str) -> None:
    own, one = explained_batches.network(), explained_batches.batch()
    slow = explained_batches.slow(own)
    fill = explained_batches.mean_color() if color == "mean" else np.zeros(3)
    labels = one.truth.int().argmax(dim=1).tolist()
    explain = slow.grad_cam(explained_batches.layer(own))
    expected = reference_training.edda_multi_class(slow, one.pixels.double().numpy(), labels, explain, taus, fill)
    contract = Edda(umask_threshold=taus[0], imask_threshold=taus[1], color=color)  # type: ignore[arg-type]
    found = masked_images(contract, own, one)
    kinds = [copy.kind for copy in expected]
    # both kinds join, and neither of every image that is predicted right
    right = found.facts["right_predictions"] * len(one)
    assert 0 < kinds.count("umask") < right < len(one)
    assert 0 < kinds.count("imask") < right
    assert found.images.tolist() == [copy.image for copy in expected]
    np.testing.assert_allclose(found.pixels.numpy(), np.stack([copy.pixels for copy in expected]), atol=1e-6)
    assert found.facts["added_umasks"] * len(one) == pytest.approx(kinds.count("umask"))
    assert found.facts["added_imasks"] * len(one) == pytest.approx(kinds.count("imask"))


def test_several_labels_give_one_imask_each_as_in_the_replica() -> None:
    own, one = explained_batches.network("sigmoid"), explained_batches.batch(several=True)
    slow = explained_batches.slow(own)
    explain = slow.grad_cam(explained_batches.layer(own))
    expected = reference_training.edda_multi_label(
        slow, one.pixels.double().numpy(), one.truth.numpy(), explain, 0.5, np.zeros(3)
    )
    found = masked_images(Edda(), own, one)
    assert found.images.tolist() == [copy.image for copy in expected]
    assert len(set(found.images.tolist())) < len(expected)  # some image has two
    np.testing.assert_allclose(found.pixels.numpy(), np.stack([copy.pixels for copy in expected]), atol=1e-6)
    assert found.facts["added_umasks"] == 0
    assert found.facts["added_imasks"] == pytest.approx(len(expected) / int(one.truth.sum()))


@pytest.mark.parametrize(("scores", "several"), [("softmax", False), ("sigmoid", True)])
@pytest.mark.parametrize("keep_original", [True, False])
def test_the_loss_is_the_mean_over_the_enlarged_batch(scores: Scores, *, several: bool, keep_original: bool) -> None:
    """Each copy with all labels of its image; the loss written in float64 from the logits that the network gave."""
    own, one = explained_batches.network(scores), explained_batches.batch(several=several)
    # what a pass leaves in batch normalization changes maps, so the logits come from a network of their own
    same = explained_batches.network(scores)
    for each in (own, same):
        each.module.get_submodule("drop").p = 0.0  # type: ignore[assignment]
    copies = masked_images(Edda(), own, one)
    pixels = torch.cat([one.pixels, copies.pixels]) if keep_original else copies.pixels
    rows = [*range(len(one))] * keep_original + copies.images.tolist()
    p = same.logits(pixels).double()
    losses = []
    for number, row in enumerate(rows):
        y = one.targets[row].double()
        if scores == "softmax":
            losses.append(-(y * p[number].log_softmax(0)).sum())
        else:
            losses.append(-(y * p[number].sigmoid().log() + (1 - y) * (-p[number]).sigmoid().log()).mean())
    method = EddaTraining(Edda(keep_original=keep_original), explained_batches.setting(own))
    found = method.step(own, one)
    assert float(found.loss.detach()) == pytest.approx(float(torch.stack(losses).mean().detach()), rel=1e-5)
    assert found.facts == copies.facts


@pytest.mark.parametrize("threshold", [0.2, 0.5])
def test_the_two_masks_have_no_pixel_in_common(threshold: float) -> None:
    maps = torch.rand(4, 9, 9, generator=torch.Generator().manual_seed(0))
    ((umask, imask),) = threshold_masks(maps, (threshold,))
    assert not bool((umask & imask).any())
    assert bool((umask | imask).float().mean() > 0.9)


def test_a_higher_threshold_keeps_fewer_pixels_of_the_umask_and_more_of_the_imask() -> None:
    """With the mean color as the mask, kept pixels can be counted. Copies that joined under both are compared."""
    kept: dict[float, dict[tuple[int, bool], int]] = {}
    for threshold in (0.1, 0.3, 0.5):
        found = added(Edda(umask_threshold=threshold, imask_threshold=threshold, color="mean"))
        umasks = round(found.facts["added_umasks"] * 24)
        fill = torch.tensor(explained_batches.mean_color()).view(3, 1, 1)
        counts = (found.pixels.double() - fill).abs().amax(dim=1).gt(1e-6).flatten(1).sum(dim=1).tolist()
        kept[threshold] = {
            (image, number < umasks): count
            for number, (image, count) in enumerate(zip(found.images.tolist(), counts, strict=True))
        }
    for low, high in ((0.1, 0.3), (0.3, 0.5)):
        both = kept[low].keys() & kept[high].keys()
        assert {is_umask for _, is_umask in both} == {True, False}
        for image, is_umask in both:
            more, fewer = (low, high) if is_umask else (high, low)
            assert kept[more][image, is_umask] > kept[fewer][image, is_umask]


def test_nothing_joins_where_the_prediction_is_wrong() -> None:
    own, one = explained_batches.network(), explained_batches.batch()
    predicted = own.predicted(one.pixels).argmax(dim=1)
    wrong = one_hot((predicted + 1) % 10, 10).bool()
    found = masked_images(Edda(), own, _with_truth(one, wrong))
    assert len(found.pixels) == 0
    assert found.facts == {"right_predictions": 0, "added_umasks": 0, "added_imasks": 0, "constant_maps": 0}
    right = masked_images(Edda(), own, _with_truth(one, one_hot(predicted, 10).bool()))
    assert right.facts["right_predictions"] == 1
    assert len(right.pixels) > 0


def _with_truth(one: TrainingBatch, truth: torch.Tensor) -> TrainingBatch:
    return replace(one, truth=truth)


def test_constant_maps_mask_nothing_and_are_counted() -> None:
    """Grad-CAM is rectified: where all weighted features speak against the class, its map is zero everywhere."""
    own = explained_batches.network()
    with torch.no_grad():
        for weight in own.module.get_submodule("head").parameters():
            weight.zero_()
    found = masked_images(Edda(), own, explained_batches.batch())
    assert found.facts["right_predictions"] > 0  # the first class, of every image
    assert found.facts["constant_maps"] == found.facts["right_predictions"]
    assert len(found.pixels) == 0


def test_random_explanations_are_uniform_and_new_in_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """RandExp: of a map that is uniform in [0, 1], a share of 1 - tau of the pixels lies above tau."""
    own, maps = explained_batches.network(), []

    def kept(relevance: torch.Tensor, thresholds: tuple[float, ...]) -> object:
        maps.append(relevance)
        return threshold_masks(relevance, thresholds)

    monkeypatch.setattr("auditcore.training.methods.edda.threshold_masks", kept)
    contract = Edda(explainer=Random(), umask_threshold=0.3)
    first = masked_images(contract, own, explained_batches.batch())
    again = masked_images(contract, own, explained_batches.batch())
    later = masked_images(contract, own, explained_batches.batch(step=1))
    assert torch.equal(first.pixels, again.pixels)
    assert torch.equal(maps[0], maps[1])
    assert not bool((maps[0] == maps[2]).any())
    assert later.facts["right_predictions"] == first.facts["right_predictions"]
    assert maps[0].shape[1:] == (32, 32)
    values = maps[0].flatten().sort().values
    expected = torch.linspace(0, 1, len(values), dtype=torch.float64)
    # the largest distance of the distributions, 1.63 / sqrt(n) at one percent
    assert float((values - expected).abs().max()) < 1.63 / len(values) ** 0.5


def test_two_classes_of_an_image_get_two_random_maps() -> None:
    own, one = explained_batches.network("sigmoid"), explained_batches.batch(several=True)
    with torch.no_grad():
        own.module.get_submodule("head").bias.fill_(100.0)  # type: ignore[operator]
    found = masked_images(Edda(explainer=Random()), own, one)
    assert found.images.tolist() == [row for row in range(len(one)) for _ in range(2)]
    assert not torch.equal(found.pixels[0], found.pixels[1])


def test_batch_normalization_learns_from_what_joins_and_from_nothing_else() -> None:
    own = explained_batches.network()
    masked_images(Edda(), own, explained_batches.batch())
    assert int(own.module.get_submodule("norm").num_batches_tracked) == _tracked(explained_batches.network())
    EddaTraining(Edda(), explained_batches.setting(own)).step(own, explained_batches.batch())
    assert int(own.module.get_submodule("norm").num_batches_tracked) == _tracked(explained_batches.network()) + 1


def _tracked(own: Network) -> int:
    return int(own.module.get_submodule("norm").num_batches_tracked)  # type: ignore[arg-type]


def test_without_originals_and_copies_a_step_learns_nothing() -> None:
    own, one = explained_batches.network(), explained_batches.batch()
    wrong = one_hot((own.predicted(one.pixels).argmax(dim=1) + 1) % 10, 10).bool()
    method = EddaTraining(Edda(keep_original=False), explained_batches.setting(own))
    found = method.step(own, _with_truth(one, wrong))
    found.loss.backward()
    assert float(found.loss.detach()) == 0
    assert all(not bool(weight.grad.any()) for weight in own.module.parameters())  # type: ignore[union-attr]
    own.module.zero_grad()
    method.step(own, one).loss.backward()
    assert all(bool(weight.grad.any()) for weight in own.module.parameters() if weight.ndim > 1)  # type: ignore[union-attr]


@pytest.mark.parametrize(("begin", "plain"), [(0.0, 0), (0.5, 2), (0.1 * 3, 1), (0.75, 3)])
def test_training_is_plain_until_the_explainer_is_asked(begin: float, plain: int) -> None:
    training = small_trainings.run(small_trainings.request(Edda(begin=begin), epochs=4), explained_batches.knowing())
    training.advance()
    assert [not epoch.method for epoch in training.history.epochs] == [True] * plain + [False] * (4 - plain)


def test_the_pixels_of_a_gradient_count_by_magnitude() -> None:
    own = explained_batches.network()
    found = added(Edda(explainer=Gradient()), own)
    assert torch.equal(found.pixels, added(Edda(explainer=Saliency()), own).pixels)
    assert not torch.equal(found.pixels, added(Edda(explainer=Gradient(), rank_by="signed"), own).pixels)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"umask_threshold": 0}, "umask_threshold"),
        ({"imask_threshold": 1}, "imask_threshold"),
        ({"begin": 1}, "begin"),
        ({"explainer": Gradient(), "reduce": "mean"}, "set rank_by to 'signed'"),
    ],
)
def test_fields_that_make_no_sense_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Edda.model_validate(fields)


def test_signed_relevance_may_be_reduced() -> None:
    assert Edda(explainer=Gradient(), rank_by="signed", reduce="mean").order == "signed"
    assert Edda(explainer=GradCam(), reduce="max_abs").order == "signed"
