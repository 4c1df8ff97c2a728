"""What a plan says about TF32 holds inside of a block, and nowhere else."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch

from auditcore.contracts.speed import Speed
from auditcore.devices.arithmetic import arithmetic

CUDA = torch.device("cuda")
"""Its settings exist without one."""


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
    with arithmetic(Speed.model_validate({"precision": precision}), CUDA):
        assert allowed() == (tf32, tf32)
        with arithmetic(Speed(), CUDA):
            assert allowed() == (False, False)
        assert allowed() == (tf32, tf32)
    assert allowed() == outside


def test_settings_come_back_after_an_error() -> None:
    before = allowed()
    with pytest.raises(ArithmeticError), arithmetic(Speed(precision="tf32"), CUDA):
        raise ArithmeticError
    assert allowed() == before


def test_nothing_is_set_for_a_cpu() -> None:
    before = allowed()
    with arithmetic(Speed(precision="tf32"), torch.device("cpu")):
        assert allowed() == before


def test_shards_in_other_threads_wait() -> None:
    entered, seen = threading.Event(), list[tuple[bool, bool]]()

    def fast() -> None:
        with arithmetic(Speed(precision="tf32"), CUDA):
            entered.set()
            seen.append(allowed())

    other = threading.Thread(target=fast)
    with arithmetic(Speed(), CUDA):
        other.start()
        assert not entered.wait(0.2)
        assert allowed() == (False, False)
    other.join(10)
    assert seen == [(True, True)]


SCRIPT = """
import sys, torch
from auditcore.contracts.speed import Speed
from auditcore.devices.arithmetic import arithmetic
exec(sys.argv[1])
before = eval(sys.argv[2])
with arithmetic(Speed(), torch.device("cuda")):
    pass
assert eval(sys.argv[2]) == before, (before, eval(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("made", "read"),
    [
        ("torch.backends.cudnn.conv.fp32_precision = 'ieee'", "torch.backends.cudnn.conv.fp32_precision"),
        pytest.param(
            "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
            "torch.backends.cuda.matmul.fp32_precision",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "torch.set_float32_matmul_precision('medium')",
            "torch.get_float32_matmul_precision()",
            marks=pytest.mark.long,
        ),
        ("torch.set_float32_matmul_precision('high')", "torch.get_float32_matmul_precision()"),
    ],
)
def test_settings_of_an_application_are_restored_for_either_interface(made: str, read: str) -> None:
    # in a process of its own, since torch remembers which interface was used
    command = [sys.executable, "-c", SCRIPT, made, read]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
