"""TokenMixup: horizontal, vertical, or both."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from pydantic import Field, model_validator

from auditcore.contracts.models import Scores
from auditcore.contracts.training.methods.method import TrainingMethodContract

LAYER = 3
"""Where the authors' runs on ImageNet mix, counted from 0; vertical mixing comes one layer later if both are on."""


@final
class TokenMixup(TrainingMethodContract):
    """Mix tokens of a vision transformer where attention says that they matter.

    `horizontal`: in one layer, tokens of an image are replaced by those at the same place of a partner, where the class
    token attends to the partner's token more, by over `rho`. Partners are assigned so that this gain is largest.
    Only easy images are mixed: a linear layer of the method itself (the paper's ScoreNet) reads their class from the
    class token, and a tenth of its cross-entropy is at most `tau`. The label follows the saliency that is kept and that
    came in. `vertical`: in one layer, tokens also attend to the `kappa` most salient tokens of every layer before.

    It needs a vision transformer of timm or torchvision with a class token. Attention is read in evaluation mode and
    without gradient. The authors' code for ViT takes the token before each salient one in vertical mixing, because it
    forgets the class token; ours takes the salient one.

    Attributes:
        direction: Between images (horizontal), from earlier layers (vertical), or both.
        rho: How much more salient a token must be to come in; the saliency of all tokens together is at most 1.
        tau: Largest difficulty of an image that is mixed.
        score_weight: Weight of the cross-entropy of the linear layer.
        kappa: Tokens that each earlier layer gives.
    """

    paper: ClassVar[str] = "Choi et al. 2022; Won et al. 2025, section 4.2"
    # an image is easy or not by the cross-entropy of its one label
    scores: ClassVar[frozenset[Scores]] = frozenset({"softmax"})
    mixes_images: ClassVar[bool] = True
    mixes_labels: ClassVar[bool] = True
    kind: Literal["token_mixup"] = "token_mixup"
    direction: Literal["horizontal", "vertical", "both"] = "horizontal"
    rho: float = Field(default=0.01, ge=0, lt=1)
    tau: float = Field(default=0.1, gt=0, le=100)
    score_weight: float = Field(default=1.0, ge=0, le=100)
    kappa: int = Field(default=3, ge=1, le=1000)
    horizontal_layer: int = Field(
        default=LAYER, ge=0, le=1000, description="Layer at whose entry tokens of images are mixed, counted from 0."
    )
    vertical_layer: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Layer whose attention reads tokens of earlier layers, counted from 0. Layer 3 if null, or 4 if "
        "both directions are on, as in the authors' runs.",
    )

    @model_validator(mode="after")
    def _layers_differ(self) -> TokenMixup:
        if self.direction == "both" and self.horizontal_layer == self.vertical_at:
            msg = "tokens are mixed in both directions in one layer; set `vertical_layer` to a later one"
            raise ValueError(msg)
        return self

    @property
    def horizontal(self) -> bool:
        """Whether tokens of images are mixed."""
        return self.direction != "vertical"

    @property
    def vertical_at(self) -> int | None:
        """The layer that reads tokens of earlier layers; None if none does."""
        if self.direction == "horizontal":
            return None
        return (LAYER + self.horizontal) if self.vertical_layer is None else self.vertical_layer
