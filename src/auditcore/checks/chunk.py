"""Consecutive images of an audit with everything the checks share: targets, probabilities, original maps.

A row of a chunk is one image explained for one target; an image with several targets has several rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from auditcore.contracts.explainers import Explainer, Random
from auditcore.explainers.attribution import Attribution
from auditcore.explainers.table import applicability, explain
from auditcore.images.preprocess import PixelBox
from auditcore.models.classifier import Classifier
from auditcore.streams import Streams


@dataclass
class Chunk:
    """The images one shard audits, and what is computed once for all checks and explainers.

    Attributes:
        classifier: The model under audit.
        pixels: (N,3,S,S) in [0,1], on the model's device.
        indices: Index in the batch of each row's image.
        targets: (N,) class explained, fixed for every changed copy.
        probabilities: (N,) probability of the target on the original image.
        streams: Random streams of the images; rows of one image share theirs.
        explainers: Every explainer of the plan.
        tick: Called between micro-batches; may raise AuditCancelled.
        micro_batch: Images a pass.
        shared: Quantities of the whole audit, such as the layer statistics of an explainer.
        boxes: Objects of each row's image that count for its target, in pixels of the model's square input.
    """

    classifier: Classifier
    pixels: Float[Tensor, "image 3 height width"]
    indices: tuple[int, ...]
    targets: Int[Tensor, " image"]
    probabilities: Float[Tensor, " image"]
    streams: Streams
    explainers: tuple[Explainer, ...]
    tick: Callable[[], None]
    micro_batch: int
    shared: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    boxes: tuple[tuple[PixelBox, ...], ...] = ()
    _originals: dict[Explainer, Attribution] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.indices)

    @cached_property
    def unable(self) -> dict[str, str]:
        """Explainers that cannot be right on this model, with the reason."""
        reasons = ((explainer.label, applicability(self.classifier, explainer)) for explainer in self.explainers)
        return {label: reason for label, reason in reasons if reason is not None}

    @property
    def able(self) -> tuple[Explainer, ...]:
        """Explainers that run on this model."""
        return tuple(explainer for explainer in self.explainers if explainer.label not in self.unable)

    @property
    def controls(self) -> tuple[Explainer, ...]:
        """The random explainer, if the plan does not ask for it; every check that can afford it runs it anyway."""
        return () if any(isinstance(explainer, Random) for explainer in self.explainers) else (Random(),)

    @property
    def explained(self) -> tuple[Explainer, ...]:
        """What a check runs: the explainers that can, and the control."""
        return (*self.able, *self.controls)

    def original(self, explainer: Explainer) -> Attribution:
        """Attributions of the unchanged images, computed once."""
        if explainer not in self._originals:
            self._originals[explainer] = self.explain(explainer, self.pixels, range(len(self)), "original")
        return self._originals[explainer]

    def explain(
        self,
        explainer: Explainer,
        pixels: Float[Tensor, "copy 3 height width"],
        owners: Sequence[int],
        views: str | Sequence[str],
    ) -> Attribution:
        """Attributions of changed copies for the targets of the images they come from.

        Args:
            explainer: The method.
            pixels: Changed copies, in pixel space.
            owners: Position of the image each copy comes from.
            views: Name of each copy's change, so that copies draw independent random numbers.
        """
        names = [views] * len(owners) if isinstance(views, str) else views
        positions = list(owners)
        attribution = explain(
            self.classifier,
            explainer,
            pixels,
            self.targets[torch.tensor(positions, device=self.targets.device)],
            self.streams.take(positions).viewing(names),
            micro_batch=self.micro_batch,
            shared=self.shared,
        )
        self.tick()
        return attribution

    def micro_batches(self, count: int) -> Iterator[slice]:
        """Slices that cut `count` passes into micro-batches, with a tick after each."""
        for start in range(0, count, self.micro_batch):
            yield slice(start, min(start + self.micro_batch, count))
            self.tick()
