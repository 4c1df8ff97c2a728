"""What every server protocol provides: a description of a model, and its answers to images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, final, runtime_checkable

from pydantic import Field

from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.capabilities import ModelCapabilities
from auditcore.contracts.contract import Contract, Sha256
from auditcore.contracts.models import Scores
from auditcore.contracts.outputs import Outputs
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.server_models import RequestLimits
from auditcore.sources.servers.tensors import RawTensor

BRIEF_ATTEMPTS, BRIEF_TIMEOUT_S = 3, 20.0


def brief(limits: RequestLimits) -> RequestLimits:
    """The same limits, shortened for requests during which a client waits and a thread of the gateway is taken."""
    attempts, timeout_s = min(limits.attempts, BRIEF_ATTEMPTS), min(limits.timeout_s, BRIEF_TIMEOUT_S)
    return limits.model_copy(update={"attempts": attempts, "timeout_s": timeout_s})


@final
class Description(Contract):
    """What a server tells about a model. Equal descriptions have equal pins.

    Attributes:
        server: Product and version of the server, as far as it tells them.
        name: Name of the model.
        version: Version that answers; None if the server does not tell it.
        weights: Digest of the weights, if the server tells it.
        classes: Number of classes, if the server tells it.
        capabilities: What the model lets an audit see.
        outputs: Whether the model returns logits or probabilities.
        scores: How logits become probabilities.
        preprocessing: What is done to images before they are sent.
        said: Everything else that distinguishes the model, such as names and shapes of tensors.
    """

    server: str
    name: str
    version: str | None
    weights: Sha256 | None = None
    classes: int | None = None
    capabilities: ModelCapabilities
    outputs: Outputs
    scores: Scores
    preprocessing: Preprocessing
    said: dict[str, str] = Field(default_factory=dict)

    @property
    def pin(self) -> Sha256:
        """Digest of the whole description; an audit fails if it changes."""
        return digest_of(self)

    @property
    def digest(self) -> Sha256:
        """Digest of the weights if the server tells it, otherwise `pin`."""
        return self.weights or self.pin


def facts_of(description: Description) -> dict[str, str | int]:
    """What a person is shown of a description, by name."""
    facts: dict[str, str | int] = {"server": description.server}
    if description.classes is not None:
        facts["classes"] = description.classes
    return facts | description.said


def name_at_server(name: str, url: str, version: str | None) -> str:
    """What a reader calls a model behind a server."""
    return f"{name} at {url}{'' if version is None else f', version {version}'}"


@runtime_checkable
class Client(Protocol):
    """One model of one server."""

    @property
    def requests_made(self) -> int:
        """Requests sent so far, tries included."""

    def allow(self, requests: int | None) -> None:
        """Set how many further requests may be made; any number if None."""

    def describe(self) -> Description:
        """Ask the server for the model's description.

        Raises:
            InputError: The server cannot be reached, has no such model, or the model cannot be audited.
        """

    def images_per_request(self, image_bytes: int) -> int:
        """Number of images in one request, if each has `image_bytes` bytes as float32."""

    def predict(self, batches: Sequence[RawTensor]) -> list[RawTensor]:
        """Outputs (N,classes) of normalized inputs (N,3,H,W); one request per batch, several at once.

        Raises:
            InputError: The server fails, or its answer is not the class scores of these images.
        """

    def close(self) -> None:
        """Close the connections."""
