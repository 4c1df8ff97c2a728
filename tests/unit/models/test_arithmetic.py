"""What a plan says about TF32 holds inside of a block, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from auditcore.contracts.speed import Speed
from auditcore.models.arithmetic import arithmetic


def allowed() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture(autouse=True)
def _torchs_own() -> Iterator[None]:
    before = allowed()
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("outside", [(False, True), (True, False)])
@pytest.mark.parametrize(("precision", "tf32"), [("fp32", False), ("tf32", True), ("bf16", True)])
def test_products_are_those_of_the_plan(outside: tuple[bool, bool], precision: str, *, tf32: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = outside
    with arithmetic(Speed.model_validate({"precision": precision})):
        assert allowed() == (tf32, tf32)
        with arithmetic(Speed()):
            assert allowed() == (False, False)
        assert allowed() == (tf32, tf32)
    assert allowed() == outside


def test_settings_come_back_after_an_error() -> None:
    before = allowed()
    with pytest.raises(ArithmeticError), arithmetic(Speed(precision="tf32")):
        raise ArithmeticError
    assert allowed() == before
