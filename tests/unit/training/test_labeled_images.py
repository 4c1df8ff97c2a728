"""Images of a training: labels, what cannot be used, and how they are divided."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import digits
import small_trainings
from auditcore.contracts.access import Limits
from auditcore.contracts.models import Scores
from auditcore.errors import InvalidRequest, LabelOutOfRange, NoUsableImages
from auditcore.images.encoded import EncodedImage
from auditcore.training import labeled_images
from auditcore.training.labeled_images import (
    LabeledImages,
    held_out,
    read_labeled,
    require_several_classes,
    share_of,
)


def read(images: list[EncodedImage], scores: Scores = "softmax") -> LabeledImages:
    return read_labeled(images, use="training", model=small_trainings.start(scores), limits=Limits())[0]


def test_labels_become_rows_of_truth() -> None:
    images = digits.encoded(5, labeled=True)
    found = read(images)
    assert found.truth.int().argmax(dim=1).tolist() == [image.label for image in images]
    assert found.truth.sum(dim=1).tolist() == [1] * 5
    several = read([replace(images[0], label=(1, 4)), images[1]], "sigmoid")
    assert several.truth[0].nonzero().flatten().tolist() == [1, 4]


@pytest.mark.parametrize("use", ["training", "validation"])
@pytest.mark.parametrize(
    ("label", "error", "message"),
    [
        (None, InvalidRequest, r"image 1 \('digit-1.png'\) has no label; give every image its class index"),
        ((1, 2), InvalidRequest, "has 2 labels, and the model has one class per image"),
        (10, LabelOutOfRange, "label 10 is not a class of this model; use 0 to 9"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(
    use: labeled_images.Use, label: int | tuple[int, ...] | None, error: type[InvalidRequest], message: str
) -> None:
    images = digits.encoded(3, labeled=True)
    images[1] = replace(images[1], label=label)
    with pytest.raises(error, match=message) as caught:
        read_labeled(images, use=use, model=small_trainings.start(), limits=Limits())
    assert caught.value.field.startswith("images" if use == "training" else "validation")


def test_an_image_that_cannot_be_decoded_is_left_out_and_listed() -> None:
    images = digits.encoded(4, labeled=True)
    images[2] = replace(images[2], data=b"no image")
    found, left_out = read_labeled(images, use="training", model=small_trainings.start(), limits=Limits())
    assert [image.index for image in found.encoded] == [0, 1, 3]
    assert [(one.index, one.code, one.images) for one in left_out] == [(2, "undecodable_image", "training")]
    assert found.truth.int().argmax(dim=1).tolist() == [images[row].label for row in (0, 1, 3)]
    with pytest.raises(NoUsableImages):
        read([images[2]])


def test_one_class_is_refused() -> None:
    same = [replace(image, label=3) for image in digits.encoded(4)]
    with pytest.raises(InvalidRequest, match=r"same label \(3\)"):
        require_several_classes(read(same))
    require_several_classes(read([*same, replace(same[0], label=4)]))
    both = [replace(image, label=(3, 4)) for image in same]
    with pytest.raises(InvalidRequest, match=r"same label \(3, 4\)"):
        require_several_classes(read(both, "sigmoid"))


@given(share=st.floats(0.01, 0.99), seed=st.integers(0, 5))
@settings(max_examples=25)
def test_held_out_images_are_apart_and_of_every_class_that_can_spare_one(share: float, seed: int) -> None:
    images, _ = small_trainings.labeled()
    kept, taken = held_out(images, share, seed)
    assert sorted(kept.encoded + taken.encoded, key=lambda one: one.index) == list(images.encoded)
    for index, count in images.per_class.items():
        expected = 0 if count == 1 else min(max(1, round(share * count)), count - 1)
        assert taken.per_class.get(index, 0) == expected


def test_nothing_can_be_held_out_of_single_images() -> None:
    images = digits.encoded(10, labeled=True)
    one_of_each = list({image.label: image for image in images}.values())
    with pytest.raises(InvalidRequest, match="no class has two images"):
        held_out(read(one_of_each), 0.2, 0)


@given(shares=st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)), seed=st.integers(0, 3))
@settings(max_examples=25)
def test_a_smaller_share_is_part_of_a_larger_one(shares: tuple[float, float], seed: int) -> None:
    images, _ = small_trainings.labeled()
    small, large = (share_of(images, share, seed) for share in sorted(shares))
    assert set(small.digests) <= set(large.digests)
    assert set(small.per_class) == set(images.per_class)
    for index, count in images.per_class.items():
        assert small.per_class[index] == (max(1, round(min(shares) * count)) if min(shares) < 1 else count)


def test_a_large_set_is_decoded_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    images = digits.encoded(6, labeled=True)
    kept = read(images)
    monkeypatch.setattr(labeled_images, "KEPT_BYTES", 100)
    found = read(images)
    assert kept.decoded is not None
    assert found.decoded is None
    torch.testing.assert_close(found.pixels([4, 1]), kept.pixels([4, 1]), rtol=0, atol=0)
    torch.testing.assert_close(found.take([2, 5]).pixels([1]), kept.pixels([5]), rtol=0, atol=0)


def test_the_digest_of_data_holds_images_and_classes() -> None:
    images = digits.encoded(4, labeled=True)
    found = read(images).digest
    assert read(list(images)).digest == found
    assert read([*images[:3], replace(images[3], label=9)]).digest != found
    assert read(images[:3]).digest != found
