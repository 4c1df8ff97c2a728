"""Which precision runs: TensorFloat-32 or bf16, for the bare model and for the engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch
from pydantic import ValidationError

from auditcore.contracts.speed import Speed

Precision = Literal["fp32", "tf32", "bf16"]


@contextmanager
def fast_arithmetic(precision: Precision) -> Iterator[None]:
    """Inside the block passes are as fast as a precision allows: TF32 or not, and cuDNN tries out its kernels.

    The settings belong to the whole process, and are as they were after the block.
    """
    # torch 2.9 and later have two interfaces. What is set by `allow_tf32` can be read by both; what is set by
    # `fp32_precision` makes a reader of `allow_tf32` fail, `torch.backends.cudnn.flags` among them.
    before = (
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.benchmark,
    )
    on = precision == "tf32"
    _set(matmul=on, convolution=on, benchmark=True)
    try:
        yield
    finally:
        _set(matmul=before[0], convolution=before[1], benchmark=before[2])


def _set(*, matmul: bool, convolution: bool, benchmark: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = matmul
    torch.backends.cudnn.allow_tf32 = convolution
    torch.backends.cudnn.benchmark = benchmark


def bare_precision(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Autocast for bf16; the others need nothing around a pass, only the switches of `fast_arithmetic`."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


@contextmanager
def engine_speed(precision: Precision, *, compiled: bool) -> Iterator[Speed]:
    """How a plan asks the engine for a precision; an engine that does not know tf32 yet gets it from outside."""
    try:
        speed = Speed.model_validate({"precision": precision, "compile": compiled})
    except ValidationError:
        with fast_arithmetic("tf32"):
            yield Speed(compile=compiled)
    else:
        yield speed
