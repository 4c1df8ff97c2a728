"""The suite checks shapes at run time: these calls have the wrong ones."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
import torch
from jaxtyping import TypeCheckError

from auditcore.images import batch, box_units
from auditcore.metrics import multigrid
from auditcore.models.classifier import Classifier


def test_a_shape_behind_an_alias_is_checked() -> None:
    assert "Field" in multigrid.restrict.__annotations__["fine"]
    assert multigrid.restrict(torch.ones(1, 1, 4, 4)).shape == (1, 1, 2, 2)
    with pytest.raises(TypeCheckError):
        multigrid.restrict(torch.ones(1, 4, 4))


def test_a_method_is_checked(digit_classifier: Classifier) -> None:
    with pytest.raises(TypeCheckError):
        digit_classifier.normalize(torch.zeros(3))


def test_a_field_of_a_dataclass_is_checked() -> None:
    assert dataclasses.is_dataclass(batch.DecodedBatch)
    with pytest.raises(TypeCheckError):
        batch.DecodedBatch(torch.zeros(3), (), (), ())


def test_what_declares_no_shape_is_left_as_it_is() -> None:
    assert inspect.unwrap(box_units.boxes_in_pixels) is box_units.boxes_in_pixels
    assert inspect.unwrap(multigrid.restrict) is not multigrid.restrict
