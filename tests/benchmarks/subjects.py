"""What is benchmarked: two models and real photos that ship inside wheels."""

from __future__ import annotations

import io
from collections.abc import Mapping

from PIL import Image

from auditcore.contracts.access import AccessRules
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.models import DemoModel, TorchvisionModel, Weights
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from auditcore.models.loading import load_classifier
from auditcore_service.cli.demo import PHOTOS, photo_path

MODELS: Mapping[str, ModelReference] = {
    "demo": DemoModel(),
    "resnet50": TorchvisionModel(name="resnet50", weights=Weights(uri="random:0")),
}
"""EfficientNet-Lite0 with its ImageNet weights; resnet50 untrained: speed does not depend on the weights."""

CUT_PX = 2
"""Border that every repetition of the photos loses more than the one before."""


def load(name: str, device: str) -> Classifier:
    """One of `MODELS`, as a worker loads it."""
    return load_classifier(MODELS[name], access=AccessRules(), device=device)


def photos(count: int, *, first: int = 0) -> list[EncodedImage]:
    """Real photos as files. From the ninth on they are the same eight, each time cut closer.

    So no two files are equal, and nothing that is kept by content can make a repetition cheaper.

    Args:
        count: How many.
        first: Index of the first.
    """
    paths = [photo_path(*photo) for photo in PHOTOS]
    found = []
    for index in range(first, first + count):
        repetition, which = divmod(index, len(paths))
        path = paths[which]
        data = path.read_bytes() if repetition == 0 else _cut(path.read_bytes(), CUT_PX * repetition)
        found.append(EncodedImage(index, path.name, data))
    return found


def _cut(data: bytes, border_px: int) -> bytes:
    with Image.open(io.BytesIO(data)) as opened:
        picture = opened.convert("RGB")
    picture = picture.crop((border_px, border_px, picture.width - border_px, picture.height - border_px))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=95)
    return file.getvalue()
