"""How an accelerator multiplies float32: as it is, or with factors rounded to TF32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from auditcore.contracts.speed import Speed


@contextmanager
def arithmetic(speed: Speed) -> Iterator[None]:
    """Inside the block, products of convolutions and matrices are those that a plan asks for.

    TF32 keeps 10 of the 23 bits of a factor, bf16 keeps 7. torch takes TF32 for convolutions unless told otherwise, so
    that float32 on an accelerator would not be what it says. In bf16, what autocast leaves in float32 is multiplied in
    TF32. cuDNN takes the kernels that it proposes, the same in every run; to try them out for each new size of a batch
    costs more than most of these sizes are used for.

    The settings belong to the whole process, and are as they were after the block.
    """
    # one interface for all: torch refuses to read a setting in the older one after it was made in the newer one
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    tf32 = speed.precision != "fp32"
    _allow_tf32(matmul=tf32, convolution=tf32)
    try:
        yield
    finally:
        _allow_tf32(matmul=before[0], convolution=before[1])


def _allow_tf32(*, matmul: bool, convolution: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = matmul
    torch.backends.cudnn.allow_tf32 = convolution
