"""The question to an explainer, a batch of images, and its answer, their maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from jaxtyping import Float, Int
from torch import Tensor

from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams


@dataclass(frozen=True)
class Attribution:
    """Signed attributions of a batch, with the diagnostics of the method.

    Attributes:
        maps: (N,C,H,W), float32, detached, on the model's device. C is 3, or 1 for spatial methods.
        diagnostics: Name in the `diagnostics` of the contract -> one value per image; NaN where undefined.
    """

    maps: Float[Tensor, "image channel height width"]
    diagnostics: Mapping[str, Float[Tensor, " image"]] = field(default_factory=dict)


@dataclass
class MadePasses:
    """Results of passes over one micro-batch, so that no method repeats a pass of another.

    Attributes:
        gradient_wanted: Whether a method will read the gradient by the input.
        layers: Layers whose features and gradients a method will read; one pass serves them all.
        logits: (N,classes) of the images, once known.
        gradient: (N,3,H,W) of the target logit by the normalized input, once known.
        features: Layer -> its output and the target logit's gradient by it, as the layer lays them out.
        guided: (N,3,H,W) map of guided backpropagation, once known.
    """

    gradient_wanted: bool = False
    layers: tuple[str, ...] = ()
    logits: Tensor | None = None
    gradient: Tensor | None = None
    features: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    guided: Tensor | None = None

    def take(self, rows: slice | Sequence[int]) -> MadePasses:
        """The results of some of the images."""
        return MadePasses(
            self.gradient_wanted,
            self.layers,
            None if self.logits is None else self.logits[rows],
            None if self.gradient is None else self.gradient[rows],
            {name: (outputs[rows], gradients[rows]) for name, (outputs, gradients) in self.features.items()},
            None if self.guided is None else self.guided[rows],
        )


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
        diagnostics: Whether the diagnostics will be read; if not, passes that only they need are left out.
        colors: Logits of images of one color by the color's name, passed once and kept.
        uploaded: Uploaded maps of these images, (N,C,H,W) by the digest of their file.
        passes: Results of passes over these images; `dataclasses.replace` gives other images, which begin without any.
    """

    classifier: Classifier
    pixels: Float[Tensor, "image channel height width"]
    targets: Int[Tensor, " image"]
    streams: Streams
    micro_batch: int = 32
    shared: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    diagnostics: bool = True
    colors: dict[str, Tensor] = field(default_factory=dict)
    uploaded: Mapping[str, Tensor] = field(default_factory=dict)
    passes: MadePasses = field(init=False, default_factory=MadePasses)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.pixels)

    @property
    def inputs(self) -> Float[Tensor, "image channel height width"]:
        """The images as the model sees them: normalized."""
        return self.classifier.normalize(self.pixels)

    def parts(self) -> Iterator[Batch]:
        """The same images, at most `micro_batch` at once; results of passes stay known."""
        if len(self) <= self.micro_batch:
            if len(self):
                yield self
            return
        for start in range(0, len(self), self.micro_batch):
            rows = slice(start, start + self.micro_batch)
            streams = self.streams.take(range(len(self))[rows])
            part = replace(
                self,
                pixels=self.pixels[rows],
                targets=self.targets[rows],
                streams=streams,
                uploaded={digest: maps[rows] for digest, maps in self.uploaded.items()},
            )
            part.know(self.passes.take(rows))
            yield part

    def know(self, passes: MadePasses) -> None:
        """Take over results of passes over these images."""
        object.__setattr__(self, "passes", passes)


def exactly(batch: Batch) -> Batch:
    """The same images with the model in float32, for methods whose result would depend on coarser rounding."""
    if batch.classifier is batch.classifier.exact:
        return batch
    return replace(batch, classifier=batch.classifier.exact)
