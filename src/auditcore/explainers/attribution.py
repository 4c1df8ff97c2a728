"""What an explainer is asked and what it answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from jaxtyping import Float, Int
from torch import Tensor

from auditcore.models.classifier import Classifier
from auditcore.streams import Streams


@dataclass(frozen=True)
class Attribution:
    """Signed attributions of a batch, with what the method reports about itself.

    Attributes:
        maps: (N,C,H,W), float32, detached, on the model's device. C is 3, or 1 for spatial methods.
        controls: Metric of `METRICS["explainer"]` -> one value an image; NaN where undefined.
    """

    maps: Float[Tensor, "image channel height width"]
    controls: Mapping[str, Float[Tensor, " image"]] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """Images to be explained.

    Attributes:
        classifier: The model under audit.
        pixels: Images in pixel space [0,1], on the model's device.
        targets: The class to explain, for each image.
        streams: Random streams of the images or changed copies.
        micro_batch: Images that pass through the model at once, at most.
        shared: Quantities of the whole audit by key, such as an explainer's layer statistics.
    """

    classifier: Classifier
    pixels: Float[Tensor, "image 3 height width"]
    targets: Int[Tensor, " image"]
    streams: Streams
    micro_batch: int = 32
    shared: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.pixels)

    @property
    def inputs(self) -> Float[Tensor, "image 3 height width"]:
        """The images as the model sees them: normalized."""
        return self.classifier.normalize(self.pixels)

    def parts(self) -> Iterator[Batch]:
        """The same images, at most `micro_batch` at once."""
        for start in range(0, len(self), self.micro_batch):
            part = slice(start, start + self.micro_batch)
            streams = self.streams.take(range(len(self))[part])
            yield replace(self, pixels=self.pixels[part], targets=self.targets[part], streams=streams)
