"""Models in archives, registries, snapshots and program files."""

from __future__ import annotations

from typing import Annotated, Literal, final

from pydantic import Field, StringConstraints, model_validator

from auditcore.contracts.contract import Contract, Sha256
from auditcore.contracts.file_parts import FileParts
from auditcore.contracts.mlflow_names import parse_mlflow_uri
from auditcore.contracts.model_signature import SIGNED, SignatureReference
from auditcore.contracts.models import (
    ENTRY_MEANING,
    TRANSFORMS,
    ClassCount,
    FactoryTarget,
    JsonScalar,
    Scores,
    WeightsEntry,
)
from auditcore.contracts.outputs import OUTPUTS_ARE, SELECTED, Outputs, Select
from auditcore.contracts.preprocessing import Preprocessing

Uri = Annotated[str, StringConstraints(min_length=1, max_length=2048)]

PINNED = "Set when the audit is submitted, if not given. The audit fails if the bytes have another digest later."


@final
class TorchvisionArchitecture(Contract):
    """An architecture of `torchvision.models` by name, such as `resnet50`."""

    kind: Literal["torchvision"] = "torchvision"
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,64}$")] = Field(
        description="Name of the architecture."
    )
    classes: ClassCount | None = Field(default=None, description="Number of classes; the architecture's own if null.")

    transform_input: bool | None = Field(default=None, description=TRANSFORMS)


@final
class TimmArchitecture(Contract):
    """An architecture of `timm` by name, such as `resnet18.a1_in1k`."""

    kind: Literal["timm"] = "timm"
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]{1,128}$")] = Field(
        description="Name of the architecture, with or without the tag of its weights."
    )
    classes: ClassCount | None = Field(default=None, description="Number of classes; the architecture's own if null.")


@final
class FactoryArchitecture(Contract):
    """The module that a callable returns; the operator allows the callable by name, as for the kind `factory`."""

    kind: Literal["factory"] = "factory"
    target: FactoryTarget = Field(description="The callable, `module:attribute.path`.")
    args: tuple[JsonScalar, ...] = Field(default=(), description="Positional arguments of the call.")
    kwargs: dict[str, JsonScalar] = Field(default_factory=dict, description="Keyword arguments of the call.")


Architecture = Annotated[TorchvisionArchitecture | TimmArchitecture | FactoryArchitecture, Field(discriminator="kind")]
"""The architecture for weights that have no trusted description of their own."""


@final
class MarModel(Contract):
    """A TorchServe model archive (`.mar`).

    Its weights are loaded into `architecture`; no code of the archive runs. Archives written by `auditcore mar` name
    their architecture themselves. Without an architecture, the TorchScript program or the eager code of the archive
    runs, which the operator must allow by the archive's digest (AUDIT_CODE_DIGESTS).
    """

    kind: Literal["mar"] = "mar"
    uri: Uri = Field(description="Place of the archive.")
    sha256: Sha256 | None = Field(default=None, description=f"Digest of the archive. {PINNED}")
    signature: SignatureReference | None = Field(
        default=None, exclude_if=lambda signature: signature is None, description=SIGNED
    )
    entry: WeightsEntry | None = Field(default=None, exclude_if=lambda entry: entry is None, description=ENTRY_MEANING)
    architecture: Architecture | None = Field(
        default=None, description="What the weights are loaded into; the archive's own if null."
    )
    outputs: Outputs | None = Field(default=None, description="The archive's own, or logits, if null.")
    select: Select | None = Field(default=None, description=f"{SELECTED} The archive's own if null.")
    scores: Scores | None = Field(default=None, description="The archive's own, or softmax, if null.")
    preprocessing: Preprocessing | None = Field(
        default=None, description="The archive's own if null. Only archives of `auditcore mar` have one."
    )


@final
class MlflowModel(Contract):
    """A model of the MLflow registry that the operator has configured (AUDIT_MLFLOW_TRACKING_URI).

    The weights of the pytorch flavor are read without running pickled code, and loaded into `architecture`.
    """

    kind: Literal["mlflow"] = "mlflow"
    uri: Annotated[str, StringConstraints(max_length=600)] = Field(
        description="`models:/name/version`, `models:/name@alias`, `models:/name/latest`, `models:/name/Production` or "
        "another stage, `models:/m-id` of a logged model, or `runs:/run_id/path`."
    )
    version: Annotated[str, StringConstraints(pattern=r"^\d{1,9}$")] | None = Field(
        default=None,
        description="The version that an alias, a stage or `latest` stands for, set when the audit is submitted.",
    )
    sha256: Sha256 | None = Field(default=None, description=f"Digest over paths and digests of all artifacts. {PINNED}")
    architecture: Architecture = Field(description="What the weights are loaded into.")
    entry: WeightsEntry | None = Field(default=None, exclude_if=lambda entry: entry is None, description=ENTRY_MEANING)
    outputs: Outputs = Field(default="logits", description=OUTPUTS_ARE)
    select: Select | None = Field(default=None, description=SELECTED)
    scores: Scores = Field(default="softmax", description="How logits become probabilities.")
    preprocessing: Preprocessing = Field(description="How a photo becomes the model's input.")

    @model_validator(mode="after")
    def _one_version(self) -> MlflowModel:
        named = parse_mlflow_uri(self.uri)
        if self.version is None or (named.registered and named.kind != "version") or named.value == self.version:
            return self
        what = f"version {named.value}" if named.registered else "no version"
        msg = f"uri names {what} and version is {self.version}; leave version out"
        raise ValueError(msg)


@final
class HuggingFaceModel(Contract):
    """An image classifier in Hugging Face layout: a snapshot folder, or a repository of the hub at one commit.

    `config.json` names the architecture, of `timm` or `transformers`; weights must be safetensors. No code of the
    repository runs.
    """

    kind: Literal["huggingface"] = "huggingface"
    uri: Uri | None = Field(
        default=None, description="Folder of a snapshot, `file:///path`. Give either `uri` or `repo`."
    )
    repo: Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,96}/[\w.-]{1,96}$")] | None = Field(
        default=None, description="Id of a repository of the hub, such as `timm/resnet18.a1_in1k`."
    )
    revision: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")] | None = Field(
        default=None, description="Full hash of a commit of the repository; branches and tags can move."
    )
    sha256: Sha256 | None = Field(default=None, description=f"Digest over names and digests of the files. {PINNED}")
    outputs: Outputs = Field(default="logits", description=OUTPUTS_ARE)
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
    """An ONNX graph, (N,3,H,W) or (N,H,W,3) to (N,classes).

    Weights may be in further files beside it, as the exporter of PyTorch writes them. A graph that was exported for a
    fixed number of images takes them in turns.

    If a conversion to PyTorch gives the same outputs as ONNX Runtime, the converted model is audited, with gradients.
    Otherwise ONNX Runtime computes the graph, and the model is a black box.
    """

    kind: Literal["onnx"] = "onnx"
    uri: Uri = Field(description="Place of the file.")
    sha256: Sha256 | None = Field(default=None, description=f"Digest of the file. {PINNED}")
    signature: SignatureReference | None = Field(
        default=None, exclude_if=lambda signature: signature is None, description=SIGNED
    )
    parts: FileParts = Field(
        default=(),
        exclude_if=lambda parts: not parts,
        description="Digests of the files of external data that the graph names. Set when the audit is submitted, if "
        "not given.",
    )
    layout: Literal["NCHW", "NHWC"] = Field(
        default="NCHW",
        exclude_if=lambda layout: layout == "NCHW",
        description="Order of the axes of the input: images, channels, height, width; or channels last.",
    )
    outputs: Outputs = Field(default="logits", description=OUTPUTS_ARE)
    select: Select | None = Field(
        default=None,
        exclude_if=lambda select: select is None,
        description="Which output has the class scores, for a graph with several: its position or its name. The only "
        "one, or `logits`, if null.",
    )
    scores: Scores = Field(default="softmax", description="How logits become probabilities.")
    preprocessing: Preprocessing = Field(description="How a photo becomes the model's input.")
    gradients: Literal["auto", "never"] = Field(default="auto", description="Whether to try the conversion to PyTorch.")


@final
class TorchScriptModel(Contract):
    """A TorchScript program (`torch.jit.save`). It is code, so the operator must allow it (AUDIT_CODE_DIGESTS)."""

    kind: Literal["torchscript"] = "torchscript"
    uri: Uri = Field(description="Place of the file.")
    sha256: Sha256 = Field(description="Digest of the file, by which the operator allows the program.")
    signature: SignatureReference | None = Field(
        default=None, exclude_if=lambda signature: signature is None, description=SIGNED
    )
    outputs: Outputs = Field(default="logits", description=OUTPUTS_ARE)
    select: Select | None = Field(default=None, description=SELECTED)
    scores: Scores = Field(default="softmax", description="How logits become probabilities.")
    preprocessing: Preprocessing = Field(description="How a photo becomes the model's input.")


@final
class TorchExportModel(Contract):
    """A program of `torch.export.save` (`.pt2`).

    Loading it can run code, so the operator must allow it (AUDIT_CODE_DIGESTS).
    """

    kind: Literal["torch_export"] = "torch_export"
    uri: Uri = Field(description="Place of the file.")
    sha256: Sha256 = Field(description="Digest of the file, by which the operator allows the program.")
    signature: SignatureReference | None = Field(
        default=None, exclude_if=lambda signature: signature is None, description=SIGNED
    )
    outputs: Outputs = Field(default="logits", description=OUTPUTS_ARE)
    select: Select | None = Field(default=None, description=SELECTED)
    scores: Scores = Field(default="softmax", description="How logits become probabilities.")
    preprocessing: Preprocessing = Field(description="How a photo becomes the model's input.")
