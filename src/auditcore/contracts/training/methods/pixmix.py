"""PixMix."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.training.methods.method import TrainingMethodContract


@final
class PixMix(TrainingMethodContract):
    """Mix each image up to `k` times with a mixing picture or an augmented copy of itself. The label stays.

    The authors' mixing pictures, fractals and feature visualizations collected by hand, cannot be loaded here. Ours are
    made from the seed: fractals of random iterated function systems, and dead leaves, which are overlapping discs of
    many sizes (Baradad et al. 2021, Learning to see by looking at noise). Results may differ from the paper's for this
    reason. Mixing is that of the authors' code: additive or multiplicative, each with weights from Beta(beta, 1)
    and Beta(1, beta), half of the time with a negative weight of the second picture.

    Attributes:
        beta: How strongly images are mixed; weights of the second picture shrink as it grows.
        k: Most rounds of mixing; their number is drawn evenly from 0 to `k`.
        severity: Largest level of an augmentation; levels are drawn from U(0.1, severity).
        pictures: Number of mixing pictures.
        picture_px: Side of a mixing picture; a random window of the input's size is taken. 9/8 of the longer side of
            the input if null, as the authors' 36 for 32.
    """

    paper: ClassVar[str] = "Hendrycks et al. 2022; Won et al. 2025, section 3.2"
    kind: Literal["pixmix"] = "pixmix"
    beta: float = Field(default=3.0, gt=0, le=100)
    k: int = Field(default=4, ge=0, le=20)
    severity: float = Field(default=3.0, ge=0.1, le=10)
    all_operations: bool = Field(
        default=False,
        description="Whether saturation, contrast, brightness and sharpness are among the augmentations too, as in the "
        "authors' recommended runs; their program leaves them out by default. Needs one or three channels.",
    )
    pictures: int = Field(default=100, ge=1, le=10_000)
    picture_px: int | None = Field(default=None, ge=8, le=4096)
