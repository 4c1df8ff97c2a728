"""Models behind a server, which answers predictions and nothing else."""

from __future__ import annotations

from typing import Annotated, Literal, final

from pydantic import Field, StringConstraints

from auditcore.contracts.contract import Contract, Sha256
from auditcore.contracts.models import ClassCount, Preprocessing, Scores
from auditcore.contracts.packaged_models import Outputs

ServerUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$", max_length=2048)]
ServedName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]{0,127}$")]
ServedVersion = Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,64}$")]

SERVER_SAYS = (
    "sha256 over what the server says of the model, such as the digest of its weights, name, version and tensors. "
    "Set when the audit is submitted, if it is not given; a server that says otherwise later fails the audit."
)
_WHERE_TOKENS_ARE = (
    "File with the bearer token, below a folder that the operator allows (AUDIT_TOKEN_ROOTS): the bare token, or "
    "TorchServe's key_file.json. Read again whenever the server refuses a token."
)


@final
class RequestLimits(Contract):
    """How hard a server may be asked."""

    images_per_request: int = Field(
        default=16, ge=1, le=1024, description="At most; fewer where a request would exceed `request_bytes`."
    )
    concurrency: int = Field(default=4, ge=1, le=64, description="Requests under way at once.")
    attempts: int = Field(
        default=5, ge=1, le=20, description="Tries of one request that is refused for a moment, with growing pauses."
    )
    timeout_s: float = Field(default=120.0, gt=0, le=3600, description="Longest wait for one answer.")
    request_bytes: int = Field(
        default=6_000_000, ge=1024, le=2**30, description="Largest body; TorchServe takes 6,553,500 bytes unless told."
    )
    requests: int | None = Field(
        default=None,
        ge=1,
        description="Budget of the whole audit, retries included; an audit that will need more is refused, and one "
        "that does need more fails.",
    )


@final
class TorchServeModel(Contract):
    """A model behind TorchServe (0.12).

    With the handler of this project (`docker/torchserve`) it answers all classes and describes itself. Behind the
    plain `image_classifier` it answers its five most probable classes, which few checks can use.

    Attributes:
        name: Name of the model on the server.
        limits: Limits of the requests that are sent to the server.
    """

    kind: Literal["torchserve"] = "torchserve"
    url: ServerUrl = Field(description="Of the inference API, such as `http://torchserve:8080`.")
    name: ServedName
    version: ServedVersion | None = Field(
        default=None, description="The default version if null; the one found then is set and asked from then on."
    )
    management_url: ServerUrl | None = Field(
        default=None, description="Of the management API, which knows the version of handlers that do not say it."
    )
    token_file: str | None = Field(default=None, min_length=1, max_length=1024, description=_WHERE_TOKENS_ARE)
    sha256: Sha256 | None = Field(default=None, description=SERVER_SAYS)
    classes: ClassCount | None = Field(default=None, description="Checked if given; the plain handler needs it.")
    class_names: tuple[str, ...] = Field(
        default=(), max_length=100_000, description="Plain handler with names instead of numbers: all, in order."
    )
    scores: Scores | None = Field(default=None, description="What the handler says, or softmax, if null.")
    preprocessing: Preprocessing | None = Field(
        default=None, description="What the handler says if null; the plain handler needs it for `resize` and `crop`."
    )
    limits: RequestLimits = RequestLimits()


@final
class OpenInferenceModel(Contract):
    """A model behind a server that speaks the Open Inference Protocol v2: KServe, Triton, MLServer, OpenVINO.

    Attributes:
        name: Name of the model on the server.
        layout: Order of the axes of its input.
        limits: Limits of the requests that are sent to the server.
    """

    kind: Literal["open_inference"] = "open_inference"
    url: ServerUrl = Field(description="Of the server, such as `http://triton:8000`; `/v2/...` is appended.")
    name: ServedName
    version: ServedVersion | None = Field(
        default=None, description="The server's own choice if null; the one found then is set and asked from then on."
    )
    token_file: str | None = Field(default=None, min_length=1, max_length=1024, description=_WHERE_TOKENS_ARE)
    sha256: Sha256 | None = Field(default=None, description=SERVER_SAYS)
    input: str | None = Field(default=None, min_length=1, max_length=256, description="Tensor; the only one if null.")
    output: str | None = Field(default=None, min_length=1, max_length=256, description="Tensor; the only one if null.")
    outputs: Outputs = Field(description="Whether the output is logits or probabilities; no protocol says it.")
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    tensors: Literal["auto", "json", "binary"] = Field(
        default="auto",
        description="How tensors travel; auto: binary where the server lists the extension, as Triton does. KServe's "
        "Python server does not list it and knows it.",
    )
    classes: ClassCount | None = Field(default=None, description="Checked if given.")
    scores: Scores = Field(default="softmax", description="How logits become probabilities.")
    preprocessing: Preprocessing = Field(
        description="What is done before images are sent; mean 0 and std 1 send pixels in [0, 1]."
    )
    limits: RequestLimits = RequestLimits()
