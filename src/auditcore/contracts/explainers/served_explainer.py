"""Maps from a server that explains, such as the one behind a product."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from pydantic import Field, model_validator

from auditcore.contracts.explainers.explainer import ExplainerContract, ExplainerServer, MapKind, Need
from auditcore.contracts.server_models import RequestLimits, ServedName, ServedVersion, ServerUrl


@final
class ServedExplainer(ExplainerContract):
    """Maps from a server: KServe's `:explain`, TorchServe's `/explanations`, or a tensor of Open Inference.

    The server gets each image, changed copies included, with the class to explain, and answers a map of the size of the
    image. Which model it explains with is the server's affair: it must be the model under audit. The answer to a probe
    image is kept when a worker begins, and asked again with each group of images, so that another explainer in its
    place is found.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    paper: ClassVar[str] = "the server's own"
    default_map_kind: ClassVar[MapKind | None] = None
    follows_weights: ClassVar[bool] = False
    kind: Literal["served_explainer"] = "served_explainer"
    protocol: Literal["kserve_v1", "torchserve", "open_inference"] = Field(
        description="kserve_v1: `/v1/models/NAME:explain` with `instances`, each `data` and `target`, answered by "
        "`explanations`. torchserve: `/explanations/NAME` with the parts `data` and `target`, one image a request. "
        "open_inference: `/v2/models/NAME/infer` with inputs for images and classes and an output of maps."
    )
    url: ServerUrl = Field(description="Address of the server, such as `http://explainer:8080`.")
    model: ServedName = Field(description="Name of the explainer or model on the server.")
    version: ServedVersion | None = Field(default=None, description="The server's default if null; not for kserve_v1.")
    token_file: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        description="File with the bearer token, below a folder that the operator allows (AUDIT_TOKEN_ROOTS).",
    )
    values: Literal["normalized", "pixels"] = Field(
        default="normalized", description="What is sent: the normalized input of the model, or pixels in [0, 1]."
    )
    maps: str = Field(
        default="explanations",
        min_length=1,
        max_length=256,
        description="Where the maps are in the answer: a key of kserve_v1, or the output of open_inference.",
    )
    images: str = Field(default="images", min_length=1, max_length=256, description="Input of open_inference.")
    targets: str = Field(
        default="targets", min_length=1, max_length=256, description="Input of open_inference for the classes, INT64."
    )
    map_kind: MapKind = Field(
        default="region",
        description="What the sign of the maps says, which decides how checks with `rank_by: auto` order pixels; as "
        "for `precomputed`.",
    )
    draws: bool = Field(
        default=False,
        description="Whether it draws random numbers. They cannot be seeded, so the same audit gives other numbers.",
    )
    limits: RequestLimits = Field(
        default=RequestLimits(),
        description="Limits on the requests. `requests` is the most that one worker sends for this entry.",
    )

    @model_validator(mode="after")
    def _version_has_a_place(self) -> ServedExplainer:
        if self.version is not None and self.protocol == "kserve_v1":
            msg = "version: kserve_v1 has no versions; leave `version` out"
            raise ValueError(msg)
        return self

    @property
    def stochastic(self) -> bool:
        """As declared; the trial refuses a server that answers differently without saying so."""
        return self.draws

    @property
    def kind_of_map(self) -> MapKind:
        """As declared."""
        return self.map_kind

    @property
    def server(self) -> ExplainerServer:
        """Where requests go."""
        return ExplainerServer(self.url, self.token_file)

    @property
    def images_a_request(self) -> int:
        """Images of one request; TorchServe reads the class of the first one only."""
        return 1 if self.protocol == "torchserve" else self.limits.images_per_request
