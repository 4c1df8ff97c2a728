"""Maps that were uploaded instead of computed."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.contract import Sha256
from auditcore.contracts.explainers.explainer import ExplainerContract, MapKind, Need


@final
class Precomputed(ExplainerContract):
    """Uploaded maps, such as those a product shows: one per image, of the class that is explained.

    Checks that explain changed copies of an image do not apply, since there are no maps of the copies.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    paper: ClassVar[str] = "uploaded"
    default_map_kind: ClassVar[MapKind | None] = None
    computes_maps: ClassVar[bool] = False
    kind: Literal["precomputed"] = "precomputed"
    maps: Sha256 = Field(description="Digest of the uploaded maps, from the answer to POST /v1/maps.")
    map_kind: MapKind = Field(
        default="region",
        description="What the sign of the maps says, which decides how checks with `rank_by: auto` order pixels. "
        "region: evidence for or against the class, over areas; ordered with the sign. attribution: what each pixel "
        "adds to the score, made from gradients; ordered by size. sensitivity: in which direction a pixel would have "
        "to change; ordered by size.",
    )

    @property
    def kind_of_map(self) -> MapKind:
        """As declared."""
        return self.map_kind

    @property
    def uploaded_maps(self) -> Sha256:
        """The file of maps."""
        return self.maps
