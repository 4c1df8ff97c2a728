"""What the price of a check depends on besides its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from auditcore.contracts.augmentations import Interval
from auditcore.contracts.explainers import ExplainerContract
from auditcore.contracts.image_colors import ImageColor
from auditcore.contracts.pass_counts import Passes


@runtime_checkable
class MapPrice(Protocol):
    """What maps cost."""

    def __call__(self, explainers: Sequence[ExplainerContract], *, reads_logits: bool = False) -> Passes:
        """Passes of the maps of one perturbed image by several explainers together.

        Args:
            explainers: Which.
            reads_logits: Whether the check reads the logits too, such as for a curve of probabilities.
        """


@dataclass(frozen=True)
class CheckCase:
    """One check in one audit.

    Attributes:
        able: Explainers of the plan that the check runs on and that can run on the model.
        explained: The same, and the random control if it is not among them.
        mapped_first: Those of `explained` whose maps need no quantity of the whole audit.
        map_colors: Colors of whole images that the maps of `able` make each new model pass once.
        side_px: Side of the model's square input.
        layers: Layers of the model that have parameters.
        unavailable: Names of augmentations that cannot be applied where the audit runs.
        intervals: What automatic intervals came to, by their key.
        groups: In how many groups the images are audited.
        accepted: Copies that a structural similarity sweep accepts; all of them if None.
        map_passes: Passes of maps of perturbed images.
    """

    able: Sequence[ExplainerContract]
    explained: Sequence[ExplainerContract]
    mapped_first: Sequence[ExplainerContract]
    map_colors: frozenset[ImageColor]
    side_px: int
    layers: int
    unavailable: frozenset[str]
    intervals: Mapping[str, Interval]
    groups: int
    accepted: int | None
    map_passes: MapPrice

    @property
    def pixels(self) -> int:
        """Pixels of the model's square input."""
        return self.side_px**2
