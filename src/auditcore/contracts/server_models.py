"""Models behind a server that answers with predictions only."""

from __future__ import annotations

from typing import Annotated, Literal, final

from pydantic import Field, StringConstraints

from auditcore.contracts.contract import Contract, Sha256
from auditcore.contracts.models import ClassCount, Scores
from auditcore.contracts.outputs import Outputs
from auditcore.contracts.preprocessing import Preprocessing

ServerUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$", max_length=2048)]
ServedName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]{0,127}$")]
ServedVersion = Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,64}$")]

SERVER_SAYS = (
    "sha256 over the server's description of the model, such as the digest of its weights, name, version and tensors. "
    "Set when the audit is submitted, if not given. The audit fails if the description changes later."
)
_WHERE_TOKENS_ARE = (
    "File with the bearer token, below a folder that the operator allows (AUDIT_TOKEN_ROOTS): only the token, or "
    "TorchServe's key_file.json. It is read again when the server refuses the token."
)


@final
class RequestLimits(Contract):
    """Limits on the requests to a server."""

    images_per_request: int = Field(
        default=16, ge=1, le=1024, description="Most images in one request; fewer if it would exceed `request_bytes`."
    )
    concurrency: int = Field(default=4, ge=1, le=64, description="Most requests at the same time.")
    attempts: int = Field(
        default=5, ge=1, le=20, description="Most tries of one request, with growing pauses between them."
    )
    timeout_s: float = Field(default=120.0, gt=0, le=3600, description="Longest wait for one answer, in seconds.")
    request_bytes: int = Field(
        default=6_000_000,
        ge=1024,
        le=2**30,
        description="Largest body of a request; TorchServe accepts 6,553,500 bytes by default.",
    )
    requests: int | None = Field(
        default=None,
        ge=1,
        description="Most requests of the whole audit, retries included. An audit that is expected to need more is "
        "refused; one that needs more while it runs fails.",
    )


@final
class TorchServeModel(Contract):
    """A model behind TorchServe (0.12).

    The handler of this project (`docker/torchserve`) returns all classes and describes the model. The plain handler
    `image_classifier` returns the five most probable classes, which few checks can use.
    """

    kind: Literal["torchserve"] = "torchserve"
    url: ServerUrl = Field(description="Address of the inference API, such as `http://torchserve:8080`.")
    name: ServedName = Field(description="Name of the model on the server.")
    version: ServedVersion | None = Field(
        default=None, description="The default version if null; the version found at submission is then used."
    )
    management_url: ServerUrl | None = Field(
        default=None, description="Address of the management API, which tells the version if the handler does not."
    )
    token_file: str | None = Field(default=None, min_length=1, max_length=1024, description=_WHERE_TOKENS_ARE)
    sha256: Sha256 | None = Field(default=None, description=SERVER_SAYS)
    classes: ClassCount | None = Field(default=None, description="Number of classes; the plain handler needs it.")
    class_names: tuple[str, ...] = Field(
        default=(),
        max_length=100_000,
        description="Names of all classes, in order, for a plain handler that answers names.",
    )
    scores: Scores | None = Field(
        default=None, description="How logits become probabilities; the handler's own, or softmax, if null."
    )
    preprocessing: Preprocessing | None = Field(
        default=None, description="The handler's own if null; the plain handler needs it for `resize` and `crop`."
    )
    limits: RequestLimits = Field(default=RequestLimits(), description="Limits on the requests.")


@final
class OpenInferenceModel(Contract):
    """A model behind a server that speaks the Open Inference Protocol v2: KServe, Triton, MLServer, OpenVINO."""

    kind: Literal["open_inference"] = "open_inference"
    url: ServerUrl = Field(description="Address of the server, such as `http://triton:8000`; `/v2/...` is appended.")
    name: ServedName = Field(description="Name of the model on the server.")
    version: ServedVersion | None = Field(
        default=None, description="The server's default if null; the version found at submission is then used."
    )
    token_file: str | None = Field(default=None, min_length=1, max_length=1024, description=_WHERE_TOKENS_ARE)
    sha256: Sha256 | None = Field(default=None, description=SERVER_SAYS)
    input: str | None = Field(
        default=None, min_length=1, max_length=256, description="Name of the input tensor; the only one if null."
    )
    output: str | None = Field(
        default=None, min_length=1, max_length=256, description="Name of the output tensor; the only one if null."
    )
    outputs: Outputs = Field(description="Whether the output is logits or probabilities; the protocol does not tell.")
    layout: Literal["NCHW", "NHWC"] = Field(default="NCHW", description="Order of the axes of the input.")
    tensors: Literal["auto", "json", "binary"] = Field(
        default="auto",
        description="Encoding of tensors. `auto` is binary if the server lists the extension, as Triton does. KServe's "
        "Python server supports it without listing it.",
    )
    classes: ClassCount | None = Field(default=None, description="Number of classes, checked if given.")
    scores: Scores = Field(default="softmax", description="How logits become probabilities.")
    preprocessing: Preprocessing = Field(
        description="Applied before images are sent; mean 0 and std 1 send pixels in [0, 1]."
    )
    limits: RequestLimits = Field(default=RequestLimits(), description="Limits on the requests.")
