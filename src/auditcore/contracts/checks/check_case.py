"""What the price of a check depends on besides its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from auditcore.contracts.augmentations import Interval
from auditcore.contracts.explainers import ExplainerContract
from auditcore.contracts.explainers.pass_sharing import colors_read, map_passes
from auditcore.contracts.image_colors import ImageColor
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import Passes


@dataclass(frozen=True)
class CheckCase:
    """One check in one audit.

    Attributes:
        able: Explainers of the plan that the check runs on and that can run on the model.
        explained: The same, and the random control if it is not among them.
        shape: Channels, height and width of the model's input.
        layers: Layers of the model that have parameters.
        unavailable: Names of augmentations that cannot be applied where the audit runs.
        intervals: What automatic intervals came to, by their key.
        groups: In how many groups the images are audited.
        accepted: Copies that a structural similarity sweep accepts; all of them if None.
    """

    able: Sequence[ExplainerContract]
    explained: Sequence[ExplainerContract]
    shape: InputShape
    layers: int
    unavailable: frozenset[str]
    intervals: Mapping[str, Interval]
    groups: int
    accepted: int | None

    @property
    def mapped_first(self) -> tuple[ExplainerContract, ...]:
        """Those of `explained` whose maps need no quantity of the whole audit, so that the first wave can make them."""
        return tuple(explainer for explainer in self.explained if not explainer.needs_measure_wave)

    @property
    def map_colors(self) -> frozenset[ImageColor]:
        """Colors of whole images that maps of perturbed images make each new model pass once."""
        return colors_read(self.able, original=False)

    def map_passes(self, explainers: Sequence[ExplainerContract], *, reads_logits: bool = False) -> Passes:
        """Passes of the maps of one perturbed image by several explainers together.

        Args:
            explainers: Which.
            reads_logits: Whether the check reads the logits too, such as for a curve of probabilities.
        """
        return map_passes(explainers, reads_logits=reads_logits, shape=self.shape)
