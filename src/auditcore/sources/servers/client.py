"""What every protocol of servers comes down to: what is said of a model, and what it answers to images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, final, runtime_checkable

from pydantic import Field

from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.capabilities import ModelCapabilities
from auditcore.contracts.contract import Contract, Sha256
from auditcore.contracts.models import Preprocessing, Scores
from auditcore.contracts.packaged_models import Outputs
from auditcore.contracts.server_models import RequestLimits
from auditcore.sources.servers.tensors import RawTensor

BRIEF_ATTEMPTS, BRIEF_TIMEOUT_S = 3, 20.0


def brief(limits: RequestLimits) -> RequestLimits:
    """The same limits for questions to which somebody waits for the answer, and which take a thread of the gateway."""
    attempts, timeout_s = min(limits.attempts, BRIEF_ATTEMPTS), min(limits.timeout_s, BRIEF_TIMEOUT_S)
    return limits.model_copy(update={"attempts": attempts, "timeout_s": timeout_s})


@final
class Description(Contract):
    """What a server says of a model; two that say the same have the same pin.

    Attributes:
        server: Product and version of the server, as far as it says so.
        name: Of the model.
        version: That answers, or null if the server keeps it to itself.
        weights: Digest of its weights, if whoever serves it says so.
        classes: How many it has, if that is said.
        capabilities: What it lets an audit see.
        outputs: Whether it answers logits or probabilities.
        scores: How logits become probabilities.
        preprocessing: What is done to images before they are sent.
        said: Everything else that tells it from other models, such as names and shapes of tensors.
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
        """Over all that is said: what an audit holds the server to."""
        return digest_of(self)

    @property
    def digest(self) -> Sha256:
        """Of the weights, if it is said; else the same as `pin`."""
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
        """What the server says of the model now.

        Raises:
            InputError: It cannot be reached, has no such model, or one that cannot be audited.
        """

    def images_per_request(self, image_bytes: int) -> int:
        """Images that one request takes, each of so many bytes as float32."""

    def predict(self, batches: Sequence[RawTensor]) -> list[RawTensor]:
        """Outputs (N,classes) of normalized inputs (N,3,H,W), one request a batch, several at once.

        Raises:
            InputError: The server fails, or answers something else than class scores of these images.
        """

    def close(self) -> None:
        """Give connections back."""
