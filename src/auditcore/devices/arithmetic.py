"""How an accelerator multiplies float32: as it is, or with factors rounded to TF32."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from auditcore.contracts.speed import Speed

_SETTINGS = threading.RLock()
"""They belong to the whole process: two shards with different ones must not run at once."""


@contextmanager
def arithmetic(speed: Speed, device: torch.device) -> Iterator[None]:
    """Inside the block, products of convolutions and matrices are those that a plan asks for.

    TF32 keeps 10 of the 23 bits of a factor, bf16 keeps 7. torch takes TF32 for convolutions unless told otherwise, so
    that float32 on an accelerator would not be what it says. In bf16, what autocast leaves in float32 is multiplied in
    TF32. cuDNN takes the kernels that it proposes, the same in every run; to try them out for each new size of a batch
    costs more than most of these sizes are used for.

    On a CPU nothing is set. On CUDA a block waits until those of other threads have ended; afterwards settings are as
    they were.

    Args:
        speed: What the plan says.
        device: Where it computes.
    """
    if device.type != "cuda":
        yield
        return
    tf32 = speed.precision != "fp32"
    with _SETTINGS, _restoring():
        _allow_tf32(allowed=tf32)
        yield


@contextmanager
def _restoring() -> Iterator[None]:
    """Settings after the block are those before it, by the interface by which they were made.

    torch has two, and refuses to read a setting in the older one after it was made in the newer one.
    """
    matmul: Any = torch.backends.cuda.matmul
    convolution: Any = torch.backends.cudnn
    try:
        older = matmul.allow_tf32, convolution.allow_tf32
        medium = torch.get_float32_matmul_precision() == "medium"
    except RuntimeError:
        newer = matmul.fp32_precision, convolution.conv.fp32_precision
        try:
            yield
        finally:
            matmul.fp32_precision, convolution.conv.fp32_precision = newer
        return
    try:
        yield
    finally:
        matmul.allow_tf32, convolution.allow_tf32 = older
        if medium:  # which is more than a permission for TF32
            torch.set_float32_matmul_precision("medium")


def _allow_tf32(*, allowed: bool) -> None:
    # by the older interface, which code that torch.compile makes still reads
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
