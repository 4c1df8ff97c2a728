"""Models in a package of their own: archives, registries, snapshots, and programs that compute them."""

from __future__ import annotations

from typing import Annotated, Literal, final

from pydantic import Field, StringConstraints, model_validator

from auditcore.contracts.contract import Contract, Sha256
from auditcore.contracts.models import ClassCount, FactoryTarget, JsonScalar, Preprocessing, Scores

Uri = Annotated[str, StringConstraints(min_length=1, max_length=2048)]

Outputs = Literal["logits", "probabilities"]
"""What a model answers. Of probabilities their logarithm stands in for logits, so that softmax gives them back."""

PINNED = "Set when the audit is submitted, if it is not given: these bytes are what is audited, or the audit fails."


@final
class TorchvisionArchitecture(Contract):
    """An architecture of `torchvision.models` by name, such as `resnet50`.

    Attributes:
        name: Name of the network in torchvision.
    """

    kind: Literal["torchvision"] = "torchvision"
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,64}$")]
    classes: ClassCount | None = Field(default=None, description="Number of classes; the architecture's own if null.")


@final
class TimmArchitecture(Contract):
    """An architecture of `timm` by name, such as `resnet18.a1_in1k`.

    Attributes:
        name: Name of the network in timm.
    """

    kind: Literal["timm"] = "timm"
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]{1,128}$")]
    classes: ClassCount | None = Field(default=None, description="Number of classes; the architecture's own if null.")


@final
class FactoryArchitecture(Contract):
    """What a callable returns that the operator has allowed by name; see the model of kind `factory`.

    Attributes:
        target: `module:attribute` of a function that returns the network.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
    """

    kind: Literal["factory"] = "factory"
    target: FactoryTarget
    args: tuple[JsonScalar, ...] = ()
    kwargs: dict[str, JsonScalar] = Field(default_factory=dict)


Architecture = Annotated[TorchvisionArchitecture | TimmArchitecture | FactoryArchitecture, Field(discriminator="kind")]
"""Into what weights are loaded that come without a description of their own that could be trusted."""


@final
class MarModel(Contract):
    """A TorchServe model archive (`.mar`).

    Its manifest is read and its weights are loaded into `architecture`; no code of the archive runs. Archives written
    by `auditcore mar` say their architecture themselves. Without an architecture, a TorchScript program or the eager
    code of the archive is run, which the operator must allow by the archive's digest (AUDIT_CODE_DIGESTS).

    Attributes:
        uri: Where the archive is.
    """

    kind: Literal["mar"] = "mar"
    uri: Uri
    sha256: Sha256 | None = Field(default=None, description=f"Of the archive. {PINNED}")
    architecture: Architecture | None = Field(default=None, description="What the weights are loaded into.")
    scores: Scores | None = Field(default=None, description="The archive's own, or softmax, if null.")
    preprocessing: Preprocessing | None = Field(
        default=None, description="The archive's own if null; archives of others have none, so give it."
    )


@final
class MlflowModel(Contract):
    """A model of the MLflow registry that the operator has configured (AUDIT_MLFLOW_TRACKING_URI).

    Weights are taken out of the pytorch flavor without running what is pickled beside them, and loaded into
    `architecture`.

    Attributes:
        architecture: Network that the weights belong to; null where the registry's model brings its own.
        preprocessing: How an image becomes the model's input.
    """

    kind: Literal["mlflow"] = "mlflow"
    uri: Annotated[
        str, StringConstraints(pattern=r"^models:/[^/@]{1,256}(/\d{1,9}|@[A-Za-z0-9_.-]{1,255})$", max_length=600)
    ] = Field(description="`models:/name/version` or `models:/name@alias`.")
    version: Annotated[str, StringConstraints(pattern=r"^\d{1,9}$")] | None = Field(
        default=None, description="What the alias stood for when the audit was submitted; set then."
    )
    sha256: Sha256 | None = Field(default=None, description=f"Over paths and digests of all artifacts. {PINNED}")
    architecture: Architecture
    scores: Scores = Field(default="softmax", description="How logits become probabilities.")
    preprocessing: Preprocessing

    @model_validator(mode="after")
    def _one_version(self) -> MlflowModel:
        named = self.uri.rpartition("/")[2]
        if self.version is not None and named.isdigit() and named != self.version:
            msg = f"uri names version {named} and version is {self.version}; leave version out"
            raise ValueError(msg)
        return self


@final
class HuggingFaceModel(Contract):
    """An image classifier in Hugging Face layout: a snapshot folder, or a repository of the hub at one commit.

    `config.json` says the architecture, of `timm` or `transformers`; weights must be safetensors. No code of the
    repository runs.
    """

    kind: Literal["huggingface"] = "huggingface"
    uri: Uri | None = Field(default=None, description="Folder of a snapshot, `file:///path`; or `repo`, never both.")
    repo: Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,96}/[\w.-]{1,96}$")] | None = Field(
        default=None, description="Hub id, such as `timm/resnet18.a1_in1k`."
    )
    revision: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")] | None = Field(
        default=None, description="Commit of the repository, in full; branches and tags move."
    )
    sha256: Sha256 | None = Field(default=None, description=f"Over names and digests of the files read. {PINNED}")
    scores: Scores = Field(default="softmax", description="How logits become probabilities.")
    preprocessing: Preprocessing | None = Field(default=None, description="The snapshot's own if null.")

    @model_validator(mode="after")
    def _folder_or_repository(self) -> HuggingFaceModel:
        if (self.uri is None) == (self.repo is None):
            msg = "give `uri`, the folder of a snapshot, or `repo`, the id of a repository; exactly one of them"
            raise ValueError(msg)
        if self.repo is not None and self.revision is None:
            msg = "a repository needs `revision`, its commit in full (40 hexadecimal digits): branches and tags move"
            raise ValueError(msg)
        return self


@final
class OnnxModel(Contract):
    """An ONNX graph, (N,3,H,W) to (N,classes).

    ONNX Runtime computes it. Where a conversion to PyTorch gives the same answers it is audited as that, with
    gradients; else it is a black box.

    Attributes:
        uri: Where the graph is.
        outputs: What the scores are.
        preprocessing: How an image becomes the model's input.
    """

    kind: Literal["onnx"] = "onnx"
    uri: Uri
    sha256: Sha256 | None = Field(default=None, description=f"Of the file. {PINNED}")
    outputs: Outputs = "logits"
    scores: Scores = Field(default="softmax", description="How logits become probabilities.")
    preprocessing: Preprocessing
    gradients: Literal["auto", "never"] = Field(default="auto", description="Whether to try the conversion to PyTorch.")


@final
class TorchScriptModel(Contract):
    """A TorchScript program (`torch.jit.save`). It is code, so the operator must allow it (AUDIT_CODE_DIGESTS).

    Attributes:
        uri: Where the program is.
        preprocessing: How an image becomes the model's input.
    """

    kind: Literal["torchscript"] = "torchscript"
    uri: Uri
    sha256: Sha256 = Field(description="Of the file; the operator allows programs by it.")
    scores: Scores = Field(default="softmax", description="How logits become probabilities.")
    preprocessing: Preprocessing


@final
class TorchExportModel(Contract):
    """A program of `torch.export.save` (`.pt2`). Loading unpickles, so the operator must allow it likewise.

    Attributes:
        uri: Where the exported program is.
        preprocessing: How an image becomes the model's input.
    """

    kind: Literal["torch_export"] = "torch_export"
    uri: Uri
    sha256: Sha256 = Field(description="Of the file; the operator allows programs by it.")
    scores: Scores = Field(default="softmax", description="How logits become probabilities.")
    preprocessing: Preprocessing
