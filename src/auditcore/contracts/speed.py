"""Faster ways through the model, asked for by name and accounted for in the report."""

from __future__ import annotations

from typing import Annotated, Literal, final

from pydantic import Field

from auditcore.contracts.contract import Contract

CurveMode = Literal["exact", "adaptive"]
"""Whether every step of a curve is measured, or only those that its area needs."""

CURVE_MODES = (
    "Exact measures every step. Adaptive measures some and refines where the curve bends, until the estimated error of "
    "the area is below `tolerance`; what lies between is interpolated."
)

Tolerance = Annotated[
    float,
    Field(
        gt=0,
        le=0.1,
        description="Of the area under an adaptive curve; unused by exact ones.",
    ),
]

DEFAULT_TOLERANCE = 0.005


@final
class Speed(Contract):
    """How the model runs. Anything but the defaults adds a `deviation` section to the report."""

    precision: Literal["fp32", "tf32", "bf16"] = Field(
        default="fp32",
        description="fp32 is float32 on every device. tf32 lets an accelerator round the factors of all products to 10 "
        "bits; on a CPU it changes nothing. bf16 runs passes of the plain model under autocast; logits, probabilities "
        "and maps stay float32, and methods that replace layer rules or optimize run in tf32. A CPU without bf16 "
        "instructions is slower so.",
    )
    compile: bool = Field(
        default=False,
        description="Compile passes of the plain model with torch.compile: on a CPU only those without gradient, on "
        "CUDA where the audit is long enough to win back the time. Where that fails the model runs as it is, with a "
        "note.",
    )

    @property
    def exact(self) -> bool:
        """Whether passes are plain float32."""
        return self.precision == "fp32" and not self.compile


LEAST_SAMPLE, SAMPLE_SHARE = 2, 50
"""Images that are measured exactly as well: two, and one of fifty in audits of more than a hundred."""


def deviation_images(images: int) -> int:
    """How many images of an audit in faster modes are measured exactly as well, the first ones.

    Args:
        images: Images of the audit.
    """
    return min(images, max(LEAST_SAMPLE, images // SAMPLE_SHARE))
