"""Which layer Grad-CAM reads of known architectures: `docs/grad-cam-layers.md`.

`make layers` builds every model with random weights, since the layer follows from the structure, and takes a few
minutes on two cores. Weights are drawn, not fetched.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from auditcore.contracts.access import AccessRules
from auditcore.contracts.models import TimmModel, TorchvisionModel
from auditcore.models.classifier import Classifier
from auditcore.models.feature_maps import token_grid
from auditcore.models.loading import load_classifier

PAGE = Path(__file__).parents[2] / "docs" / "grad-cam-layers.md"

TORCHVISION = (
    *("alexnet", "vgg16", "squeezenet1_1", "resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "densenet121"),
    *("googlenet", "inception_v3", "mobilenet_v2", "mobilenet_v3_large", "mnasnet1_0", "shufflenet_v2_x1_0"),
    *("efficientnet_b0", "regnet_y_400mf", "convnext_tiny", "swin_t", "vit_b_16", "maxvit_t"),
)
TIMM = (
    *("resnet50d", "seresnet50", "skresnet18", "res2net50_26w_4s", "resnest14d", "regnety_032", "inception_v4"),
    *("vovnet39a", "dla34", "hrnet_w18_small", "repvgg_a0", "nfnet_l0", "tresnet_m", "ghostnet_100"),
    *("mobilenetv3_large_100", "efficientnet_b0", "convmixer_768_32", "mobilevit_xxs", "edgenext_xx_small"),
    *("pvt_v2_b0", "poolformer_s12", "coatnet_nano_rw_224", "maxvit_nano_rw_256", "efficientformer_l1", "levit_128s"),
    *("mixer_s32_224", "twins_svt_small", "deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"),
    *("beit_base_patch16_224", "convit_tiny", "cait_xxs24_224", "xcit_nano_12_p16_224", "coat_lite_tiny"),
    *("swin_tiny_patch4_window7_224", "crossvit_9_240"),
)

HEAD = """# The layer that Grad-CAM reads

Without a name in the plan, Grad-CAM and guided Grad-CAM read the last feature map around which nothing flows to the
logits: the output of the last block as a whole, not of a convolution inside it, a branch, a shortcut, a gate, a
position code or the patch embedding. It is found on the graph of one pass, so any architecture will do. The layer
taken stands in the report (`model.layers`) and in the answer of `POST /v1/models:inspect`.

- Where several layers give the same values, the outermost names them: `layer4`, not `layer4.2`.
- Pooling that keeps positions, dropout and changes of layout after the last block do not count as blocks. A
  normalization does.
- A transformer that takes its logits from a class token uses positions for the last time at the entrance of its last
  block. Class, distillation and register tokens are dropped.
- Squeezenet's last map has a channel for each class, so Grad-CAM is the rectified map of that class there.
- Where a model ends in several separate networks, no map contains everything: name a layer (`"layer": "..."`) then.

`make layers` writes this table: random weights, each model at the size it is made for.

| Library | Model | Input | Layer | Feature map | Dropped tokens |
|---|---|---|---|---|---|
"""


class Row(NamedTuple):
    """One line of the table; no layer where none holds everything."""

    library: str
    model: str
    size: int
    layer: str | None
    maps: str
    dropped: int


def row_of(library: str, model: str, found: Classifier) -> Row:
    """What Grad-CAM reads of a model."""
    layer = found.last_feature_layer
    flow = next((flow for flow in found.flows if flow.name == layer), None)
    if layer is None or flow is None:
        return Row(library, model, found.shape.height, None, "", 0)
    match found.layouts[layer]:
        case "channels_first":
            _, channels, height, width = flow.shape
        case "channels_last":
            _, height, width, channels = flow.shape
        case "tokens":
            _, tokens, channels = flow.shape
            grid = token_grid(tokens, found.shape)
            height, width = (0, 0) if grid is None else grid[1:]
    return Row(library, model, found.shape.height, layer, f"{channels} x {height} x {width}", flow.prefix)


def line(row: Row) -> str:
    """A row in Markdown."""
    layer = "none: name one" if row.layer is None else f"`{row.layer}`"
    return f"| {row.library} | {row.model} | {row.size} | {layer} | {row.maps} | {row.dropped or ''} |"


def rows() -> Iterator[Row]:
    """All rows; one model is in memory at a time."""
    for library, kind, names in (("torchvision", TorchvisionModel, TORCHVISION), ("timm", TimmModel, TIMM)):
        for name in names:
            reference = kind.model_validate({"name": name, "weights": {"uri": "random:1"}})
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield row_of(library, name, load_classifier(reference, access=AccessRules(), device="cpu"))
            gc.collect()


def main() -> None:
    """Write the page."""
    lines = []
    for row in rows():
        lines.append(line(row))
        print(lines[-1], flush=True)  # noqa: T201 - progress
    PAGE.write_text(HEAD + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
