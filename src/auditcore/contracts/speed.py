"""Faster modes of running the model; the report states their effect."""

from __future__ import annotations

from typing import Annotated, Literal, final

from pydantic import Field

from auditcore.contracts.contract import Contract

CurveMode = Literal["exact", "adaptive"]
"""Whether every step of a curve is measured, or only those that its area needs."""

CURVE_MODES = (
    "exact measures every step. adaptive measures some steps and refines where the curve bends, until the estimated "
    "error of the area is below `tolerance`; steps between are interpolated."
)

Tolerance = Annotated[
    float,
    Field(
        gt=0,
        le=0.1,
        description="Tolerance of the area under an adaptive curve; not used by exact curves.",
    ),
]

DEFAULT_TOLERANCE = 0.005


@final
class Speed(Contract):
    """How the model runs. Any value other than the defaults adds a section `deviation` to the report."""

    precision: Literal["fp32", "tf32", "bf16"] = Field(
        default="fp32",
        description="fp32 is float32 on every device. tf32 lets an accelerator round the factors of all products to 10 "
        "bits; on a CPU it changes nothing. bf16 runs passes of the plain model under autocast; logits, probabilities "
        "and maps stay float32, and methods that replace layer rules or optimize run in tf32. bf16 is slower on a CPU "
        "without bf16 instructions.",
    )
    compile: bool = Field(
        default=False,
        description="Compile passes of the plain model with torch.compile: on a CPU only passes without gradient, on "
        "CUDA if the audit is long enough to make up for the compilation. If compilation fails, the model runs "
        "without it and the report has a note.",
    )

    @property
    def exact(self) -> bool:
        """Whether passes are plain float32."""
        return self.precision == "fp32" and not self.compile


LEAST_SAMPLE, SAMPLE_SHARE = 2, 50
"""Images that are also measured exactly: two, or one in fifty in audits of more than a hundred."""


def deviation_images(images: int) -> int:
    """Return how many of the first images of an audit in faster modes are also measured exactly.

    Args:
        images: Number of images of the audit.
    """
    return min(images, max(LEAST_SAMPLE, images // SAMPLE_SHARE))
