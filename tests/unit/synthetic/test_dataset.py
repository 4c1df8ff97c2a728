"""The dataset: a sequence of encoded images, splits, subsets, annotated parts, digits."""

from __future__ import annotations

import io
import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from auditcore.contracts.synthetic import Digits, ObjectsOnScenes, Shortcut
from auditcore.errors import InvalidRequest
from auditcore.images.masks import mask_pixels, run_length_pixels
from auditcore.synthetic.dataset import SyntheticDataset
from auditcore.synthetic.generation import generate_images
from auditcore.synthetic.regions import box_of, run_lengths_of
from auditcore.synthetic.stratified import split_positions, subset_positions


@pytest.fixture(scope="module")
def data() -> SyntheticDataset:
    parameters = ObjectsOnScenes(images=120, object_classes=3, scene_classes=4, shortcut=Shortcut(agreement=0.9))
    return generate_images(parameters)


@pytest.fixture(scope="module")
def digits() -> SyntheticDataset:
    return generate_images(Digits())


def pixels_of(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_it_is_a_sequence_of_encoded_images(data: SyntheticDataset) -> None:
    assert len(data) == 120
    assert [image.index for image in data] == list(range(120))
    assert [image.label for image in data] == list(data.labels)
    assert data[-1].name == data[119].name == "000119.png"
    assert [image.name for image in data[5:8]] == ["000005.png", "000006.png", "000007.png"]
    assert np.array_equal(np.stack([pixels_of(image.data) for image in data]), data.pixels())
    with pytest.raises(IndexError):
        data[120]


@pytest.mark.parametrize("labels", ["objects", "scenes"])
@pytest.mark.parametrize("annotated", ["label", "object", "scene", "mark"])
def test_boxes_and_masks_are_those_of_the_part(annotated: str, labels: str) -> None:
    parameters = {"images": 30, "labels": labels, "shortcut": {"agreement": 0.9}}
    data = generate_images(ObjectsOnScenes.model_validate(parameters))
    part = {"objects": "object", "scenes": "scene"}[labels] if annotated == "label" else annotated
    for encoded, image in zip(data.annotating(annotated), data.images, strict=True):
        wanted = image.region(part)  # type: ignore[arg-type]
        label = image.label if annotated == "label" else None
        (box,), (mask,) = encoded.boxes, encoded.masks
        assert np.array_equal(mask_pixels(mask, (32, 32), field="images.0"), wanted)
        rows, columns = np.nonzero(wanted)
        assert (box.x0, box.y0) == (columns.min(), rows.min())
        assert (box.x1, box.y1) == (columns.max() + 1, rows.max() + 1)
        assert box.label == mask.label == label
        assert encoded.label == image.label


def test_an_image_without_the_part_has_no_box(data: SyntheticDataset) -> None:
    bare = data.without_marks().annotating("mark")[0]
    assert bare.boxes == bare.masks == ()
    assert bare.label == data.labels[0]


@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_run_lengths_and_boxes_come_back(height: int, width: int, drawn: st.DataObject) -> None:
    bits = drawn.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    region = np.array(bits).reshape(height, width)
    assert np.array_equal(run_length_pixels(run_lengths_of(region)), region)
    if region.any():
        box = box_of(region, label=3)
        inside = region[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)]
        assert inside.sum() == region.sum()
        assert inside[0].any()
        assert inside[-1].any()
        assert inside[:, 0].any()
        assert inside[:, -1].any()


def test_a_part_that_images_do_not_have_is_refused(data: SyntheticDataset) -> None:
    with pytest.raises(InvalidRequest, match="label, object, scene, mark") as caught:
        data.annotating("background")
    assert caught.value.field == "annotated"


# -- splits and subsets

# at least 20 of each class, so that each has an image in a part of 5 %
LABELS = st.lists(st.integers(20, 40), min_size=1, max_size=4).flatmap(
    lambda counts: st.permutations([label for label, count in enumerate(counts) for _ in range(count)])
)


@given(LABELS, st.lists(st.floats(0.05, 0.45), min_size=1, max_size=2), st.integers(0, 2**53 - 1))
@settings(max_examples=25, deadline=None)
def test_a_split_is_complete_disjoint_and_stratified(labels: list[int], shares: list[float], seed: int) -> None:
    numbers = [7 * position for position in range(len(labels))]
    counts = Counter(labels)
    parts = split_positions(labels, numbers, shares, seed=seed)
    assert sorted(position for part in parts for position in part) == list(range(len(labels)))
    for part, share in zip(parts, [*shares, 1 - sum(shares)], strict=True):
        assert list(part) == sorted(part)
        found = Counter(labels[position] for position in part)
        assert set(found) == set(counts)
        for label, count in counts.items():
            assert abs(found[label] - share * count) <= 1 + 1e-9
    # the part follows from the image's number and class, whatever its position
    turned = split_positions(labels[::-1], numbers[::-1], shares, seed=seed)
    for part, other in zip(parts, turned, strict=True):
        assert {numbers[position] for position in part} == {numbers[::-1][position] for position in other}


@given(LABELS, st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 2**53 - 1))
@settings(max_examples=25, deadline=None)
def test_subsets_are_nested_and_stratified(labels: list[int], one: float, other: float, seed: int) -> None:
    small, large = (subset_positions(labels, range(len(labels)), share, seed=seed) for share in sorted((one, other)))
    assert set(small) <= set(large)
    counts = Counter(labels)
    found = Counter(labels[position] for position in small)
    for label, count in counts.items():
        assert found[label] >= 1
        assert found[label] == 1 or abs(found[label] - min(one, other) * count) <= 0.5 + 1e-9
    assert subset_positions(labels, range(len(labels)), 1.0, seed=seed) == tuple(range(len(labels)))


def test_classes_have_as_many_images_as_in_splits_of_scikit_learn(digits: SyntheticDataset) -> None:
    ours = Counter(digits.split(0.8)[1].labels)
    theirs = Counter(train_test_split(digits.labels, test_size=0.2, stratify=digits.labels, random_state=0)[1])
    assert set(ours) == set(theirs)
    assert all(abs(ours[label] - theirs[label]) <= 1 for label in ours)


def test_splits_depend_on_the_seed_and_counterfactuals_are_in_the_same_parts(data: SyntheticDataset) -> None:
    training, validation, test = data.split(0.6, 0.2)
    assert (len(training), len(validation), len(test)) == (72, 24, 24)
    again = data.with_contradicting_marks().split(0.6, 0.2)
    assert [image.name for image in again[2]] == [image.name for image in test]
    other = data.split(0.6, 0.2, seed=1)
    assert [image.name for image in other[2]] != [image.name for image in test]
    assert [image.index for image in test] == list(range(24))


def test_the_splits_of_the_thesis(data: SyntheticDataset) -> None:
    splits = [data.subset(share) for share in (1.0, 0.8, 0.6, 0.4, 0.2)]
    assert [len(split) for split in splits] == [120, 96, 72, 48, 24]
    names = [{image.name for image in split.images} for split in splits]
    assert all(smaller < larger for larger, smaller in itertools.pairwise(names))
    assert Counter(splits[-1].labels) == {0: 8, 1: 8, 2: 8}


@pytest.mark.parametrize("shares", [(), (0.0,), (1.0,), (0.6, 0.4), (-0.1, 0.5), (float("nan"),)])
def test_shares_that_leave_nothing_are_refused(data: SyntheticDataset, shares: tuple[float, ...]) -> None:
    with pytest.raises(InvalidRequest, match="leave something") as caught:
        data.split(*shares)
    assert caught.value.field == "shares"


def test_a_class_that_would_miss_in_a_part_is_named(data: SyntheticDataset) -> None:
    with pytest.raises(InvalidRequest, match="class 0 has 40 images, too few"):
        data.split(0.99)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.01, float("nan")])
def test_a_subset_has_a_share(data: SyntheticDataset, share: float) -> None:
    with pytest.raises(InvalidRequest, match="at most 1") as caught:
        data.subset(share)
    assert caught.value.field == "share"


# -- digits


def test_digits_are_those_of_scikit_learn(digits: SyntheticDataset) -> None:
    source = load_digits()
    assert digits.labels == digits.object_labels == tuple(source.target.tolist())
    assert digits.scene_labels == (None,) * 1797
    assert digits.class_names == tuple("0123456789")
    for number in (0, 500, 1796):
        pixels = digits.images[number].pixels
        assert (pixels == pixels[..., :1]).all()
        # of the ink, the enlarged image has each pixel three by three, smoothed
        means = pixels[4:28, 4:28, 0].reshape(8, 3, 8, 3).mean(axis=(1, 3))
        assert np.corrcoef(means.ravel(), source.images[number].ravel())[0, 1] > 0.98
        assert np.array_equal(digits.images[number].region("object"), (pixels > 0).any(axis=2))
        margin = pixels.copy()
        margin[4:28, 4:28] = 0
        assert not margin.any()


def test_the_parts_of_digits_are_given(digits: SyntheticDataset) -> None:
    parts = [generate_images(Digits.model_validate({"part": part})) for part in ("training", "validation", "test")]
    assert [len(part) for part in parts] == [1078, 359, 360]
    assert sum((part.labels for part in parts), ()) == digits.labels
    assert parts[2][0].name == "001437.png"
    assert all(min(Counter(part.labels).values()) >= 33 for part in parts)


def test_digits_take_the_same_shortcut() -> None:
    data = generate_images(Digits(part="test", shortcut=Shortcut(agreement=0.8), size_px=24))
    agreeing = sum(mark == label for mark, label in zip(data.marks, data.labels, strict=True))
    assert 0.7 < agreeing / len(data) < 0.9
    bare = generate_images(Digits(part="test", size_px=24))
    assert np.array_equal(data.without_marks().pixels(), bare.pixels())
