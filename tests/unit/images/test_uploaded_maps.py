"""Files of uploaded maps: what is in them, which map belongs to which image, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from auditcore.contracts.explainers import Gradient, Precomputed
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.map_files import read_map_layout
from auditcore.contracts.plan import AuditPlan
from auditcore.errors import MapsInvalid
from auditcore.images.uploaded_maps import NO_MAP, NOT_FINITE, UploadedMaps, uploaded_maps

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
MAPS = np.random.default_rng(1).normal(size=(3, 8, 8)).astype(np.float32)


def test_ordered_maps_belong_to_indices() -> None:
    maps = UploadedMaps(save({"maps": MAPS}), field="x")
    assert maps.file.model_dump() == {
        "images": 3,
        "channels": 1,
        "height": 8,
        "width": 8,
        "ordered": True,
        "targeted": False,
    }
    rows = maps.rows([2, 0, 3], [A, B, C], [1, 1, 1], shape=InputShape(3, 8, 8))
    torch.testing.assert_close(rows.maps[:2, 0], torch.from_numpy(MAPS[[2, 0]]))
    assert rows.missing == {2: NO_MAP}
    assert not rows.maps[2].any()


def test_named_maps_belong_to_digests() -> None:
    maps = UploadedMaps(save({A: MAPS[0], C: MAPS[1]}), field="x")
    rows = maps.rows([0, 1, 2], [C, B, A], [1, 1, 1], shape=InputShape(3, 8, 8))
    torch.testing.assert_close(rows.maps[[0, 2], 0], torch.from_numpy(MAPS[[1, 0]]))
    assert rows.missing == {1: NO_MAP}


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions_and_channels_are_read(dtype: type) -> None:
    values = np.random.default_rng(2).normal(size=(2, 3, 8, 8)).astype(dtype)
    rows = UploadedMaps(save({"maps": values}), field="x").rows([1], [A], [0], shape=InputShape(3, 8, 8))
    np.testing.assert_array_equal(rows.maps[0].numpy(), values[1].astype(np.float32))


def test_a_map_of_another_class_is_not_used() -> None:
    ordered = UploadedMaps(save({"maps": MAPS, "targets": np.array([4, 5, 6])}), field="x")
    rows = ordered.rows([0, 1], [A, B], [4, 9], shape=InputShape(3, 8, 8))
    assert rows.missing == {1: "the uploaded map explains class 5, but the audit explains class 9"}
    named = UploadedMaps(save({A: MAPS[0]}, metadata={"targets": json.dumps({A: 3})}), field="x")
    assert named.file.targeted
    assert "class 3" in named.rows([0], [A], [4], shape=InputShape(3, 8, 8)).missing[0]
    assert not named.rows([0], [A], [3], shape=InputShape(3, 8, 8)).missing


def test_values_that_are_not_finite_are_not_a_map() -> None:
    maps = MAPS.copy()
    maps[1, 0, 0] = np.nan
    rows = UploadedMaps(save({"maps": maps}), field="x").rows([0, 1], [A, B], [0, 0], shape=InputShape(3, 8, 8))
    assert rows.missing == {1: NOT_FINITE}
    assert rows.maps.isfinite().all()


@pytest.mark.parametrize(
    ("maps", "given"),
    [
        (MAPS[:, :4], "8 x 4 pixels"),
        (np.zeros((2, 2, 8, 8), np.float32), "8 x 8 pixels of 2 channels"),
    ],
)
def test_maps_fit_the_input_in_every_axis(maps: np.ndarray, given: str) -> None:
    uploaded = UploadedMaps(save({"maps": maps}), field="x")
    with pytest.raises(MapsInvalid, match=f"the maps are {given}, but the model's input is 8 x 8 pixels;"):
        uploaded.rows([0], [A], [0], shape=InputShape(3, 8, 8))
    _, *shape = maps.shape
    own = InputShape(*((1, *shape) if len(shape) == 2 else shape))
    assert uploaded.rows([0], [A], [0], shape=own).maps.shape == (1, *own)


def test_maps_of_another_size_than_the_input_are_refused_with_both_sizes() -> None:
    with pytest.raises(MapsInvalid, match=r"8 x 8 pixels, but the model's input is 224 x 224") as caught:
        UploadedMaps(save({"maps": MAPS}), field="plan.explainers.0.maps").rows(
            [0], [A], [0], shape=InputShape(3, 224, 224)
        )
    assert caught.value.field == "plan.explainers.0.maps"


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"PK\x03\x04", "safetensors format"),
        (save({"maps": MAPS, "more": MAPS}), "contains a tensor 'more'"),
        (save({"maps": MAPS[0]}), "a map is"),
        (save({"maps": np.zeros((2, 0, 8, 8), np.float32)}), "a map is"),
        (save({"maps": np.zeros((2, 1, 8, 4097), np.float16)}), "a map is"),
        (save({"maps": MAPS.astype(np.int64)}), "a map is"),
        (save({"maps": MAPS[:0]}), "`maps` is empty"),
        (save({"maps": MAPS, "targets": np.array([1, 2])}), "one class per map"),
        (save({"maps": MAPS, "targets": np.array([1, 2, 3], np.int32)}), "one class per map"),
        (save({"cat.png": MAPS[0]}), "neither `maps` nor named after an image"),
        (save({A: MAPS[0], B: MAPS[0, :4, :4]}), "the same size"),
        (save({A: MAPS[0]}, metadata={"targets": "[1]"}), "JSON object of classes"),
        (save({A: MAPS[0]}, metadata={"targets": "{"}), "JSON object of classes"),
    ],
)
def test_other_files_are_refused(data: bytes, match: str) -> None:
    with pytest.raises(MapsInvalid, match=match) as caught:
        read_map_layout(data, field="maps")
    assert caught.value.field == "maps"


def test_a_plan_gets_the_files_it_names() -> None:
    data = save({"maps": MAPS})
    digest = "sha256:" + "0" * 64
    plan = AuditPlan.model_validate(
        {"explainers": [Gradient(), Precomputed(maps=digest)], "checks": [{"kind": "complexity"}]}
    )
    assert set(uploaded_maps(plan, {digest: data}.__getitem__)) == {digest}
    with pytest.raises(MapsInvalid) as caught:
        uploaded_maps(plan, lambda _digest: b"")
    assert caught.value.field == "plan.explainers.1.maps"
