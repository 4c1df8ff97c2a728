"""Cutout: squares that are covered."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.training.methods.method import TrainingMethodContract


@final
class Cutout(TrainingMethodContract):
    """Cover a square of each image. The label stays.

    The center of the square is any pixel, so a square may stick out of the image, as in the authors' code. That code
    sets normalized images to 0, which is the mean color. An odd side covers one pixel less, as in the code.

    Attributes:
        side: Side of a square as a share of the shorter side of the input, rounded down; the paper's 16 of 32 pixels
            on CIFAR-10.
        squares: Squares of each image, which may overlap.
    """

    paper: ClassVar[str] = "DeVries and Taylor 2017"
    kind: Literal["cutout"] = "cutout"
    side: float = Field(default=0.5, gt=0, le=1)
    side_px: int | None = Field(
        default=None, ge=1, le=65_536, description="Side in pixels of the input; overrides `side`."
    )
    squares: int = Field(default=1, ge=1, le=100)
    color: Literal["mean", "black"] = Field(
        default="mean", description="mean: the mean color of the model's preprocessing. black: 0 in pixel space."
    )
