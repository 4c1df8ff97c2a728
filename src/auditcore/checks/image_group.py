"""Consecutive images of an audit with everything the checks share: targets, probabilities, original maps.

A row of a group is one image explained for one target; an image with several targets has several rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from auditcore.checks.micro_batches import MicroBatches
from auditcore.contracts.capabilities import check_incompatibility, pair_incompatibility
from auditcore.contracts.checks import CheckContract, Noise
from auditcore.contracts.explainers import CONTROL, Explainer
from auditcore.devices.transfer import numbers_on, to_device
from auditcore.explainers.attribution import Attribution, Batch, MadePasses
from auditcore.explainers.registry import applicability, explain_together, joined, why_no_map
from auditcore.explainers.shared_pass import color_logits, image_logits
from auditcore.images.placement import InputPart
from auditcore.images.preprocess import PixelBox
from auditcore.images.uploaded_maps import MapRows
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import KeptDraws, Streams

REPEAT = "repeatability"
"""View of the unchanged images under another draw, and the purpose under which the cost of their maps is listed."""


class Prediction(NamedTuple):
    """What the model says of the target of each image.

    Attributes:
        probability: Of the target.
        predicted: Whether the target is predicted.
    """

    probability: Float[Tensor, " image"]
    predicted: Bool[Tensor, " image"]


@dataclass
class ImageGroup:
    """The images that are audited together, and what is computed once for all checks and explainers.

    Attributes:
        classifier: The model under audit.
        pixels: (N,3,S,S) in [0,1], on the model's device.
        indices: Index in the batch of each row's image.
        targets: (N,) class explained, fixed for every changed copy.
        probabilities: (N,) probability of the target on the original image.
        streams: Random streams of the images; rows of one image share theirs.
        explainers: Every explainer of the plan.
        tick: Called between micro-batches; may raise AuditCancelled.
        micro_batches: How many images pass at once.
        shared: Quantities of the whole audit, such as the layer statistics of an explainer.
        boxes: Objects of each row's image that count for its target, in pixels of the model's square input.
        masks: Masks of objects of each row's image that count for its target, in pixels of the model's input.
        passes: What is known of the originals from passes made already: their logits, and gradients if wanted.
        colors: Logits of images of one color by its name, passed once a shard.
        uploaded: Maps of each row that were uploaded, by the digest of their file.
        references: The same rows in the models with which checks compare this one, by the name of the model.
    """

    classifier: Classifier
    pixels: Float[Tensor, "image channel height width"]
    indices: tuple[int, ...]
    targets: Int[Tensor, " image"]
    probabilities: Float[Tensor, " image"]
    streams: Streams
    explainers: tuple[Explainer, ...]
    tick: Callable[[], None]
    micro_batches: MicroBatches
    shared: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    boxes: tuple[tuple[PixelBox, ...], ...] = ()
    masks: tuple[tuple[Bool[Tensor, "height width"], ...], ...] = ()
    passes: MadePasses = field(default_factory=MadePasses)
    colors: dict[str, Tensor] = field(default_factory=dict)
    uploaded: Mapping[str, MapRows] = field(default_factory=dict)
    references: Mapping[str, ReferenceRows] = field(default_factory=dict)
    _originals: dict[Explainer, Attribution] = field(default_factory=dict)
    _repeats: dict[Explainer, Attribution] = field(default_factory=dict)
    _kept: KeptDraws = field(default_factory=KeptDraws)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.indices)

    @cached_property
    def unable(self) -> dict[str, str]:
        """Explainers that cannot be right on this model, with the reason."""
        reasons = ((explainer.label, applicability(self.classifier, explainer)) for explainer in self.explainers)
        return {label: reason for label, reason in reasons if reason is not None}

    def unable_under(self, check: CheckContract) -> dict[str, str]:
        """Explainers that a check can say nothing of, on this model or at all, with the reason."""
        whole = check_incompatibility(check, self.classifier.capabilities)
        reasons = (
            (one.label, self.unable.get(one.label) or whole or pair_incompatibility(check, one))
            for one in self.explainers
        )
        return {label: reason for label, reason in reasons if reason is not None}

    def without(self, labels: Collection[str]) -> ImageGroup:
        """The same images with fewer explainers; what is computed once serves both."""
        kept = tuple(explainer for explainer in self.explainers if explainer.label not in labels)
        return self if len(kept) == len(self.explainers) else replace(self, explainers=kept)

    def under(self, check: CheckContract) -> ImageGroup:
        """The same images with the explainers that a check runs on."""
        return self.without([one.label for one in self.explainers if not check.runs_on(one.label)])

    @property
    def able(self) -> tuple[Explainer, ...]:
        """Explainers that run on this model."""
        return tuple(explainer for explainer in self.explainers if explainer.label not in self.unable)

    @property
    def repeatable(self) -> tuple[Explainer, ...]:
        """Stochastic explainers that run on this model, whose maps another draw changes; no controls."""
        return tuple(one for one in self.able if one.repeatable)

    def without_map(self, explainer: Explainer) -> Mapping[int, str]:
        """Rows of which an explainer that runs has no map, with the reason: for example, none was uploaded."""
        if explainer.uploaded_maps is not None:
            return self.uploaded[explainer.uploaded_maps].missing
        reason = why_no_map(explainer, self.shared.get(explainer.shared_key))
        return {} if reason is None else dict.fromkeys(range(len(self)), reason)

    @property
    def controls(self) -> tuple[Explainer, ...]:
        """The random explainer, if the plan does not ask for it; every check that can afford it runs it anyway."""
        return () if any(explainer.is_control for explainer in self.explainers) else (CONTROL,)

    @property
    def explained(self) -> tuple[Explainer, ...]:
        """What a check runs: the explainers that can, and the control."""
        return (*self.able, *self.controls)

    def each(self, count: int, work: Callable[[slice], None]) -> None:
        """Do work on slices of `count` passes that fit into memory, with a tick after each."""
        self.micro_batches.each(count, work, tick=self.tick)

    @property
    def target_logits(self) -> Float[Tensor, " image"]:
        """Target logit of every row on the original image; passed unless it is known."""
        return self.logits.gather(1, self.targets[:, None])[:, 0]

    @property
    def predicted(self) -> Bool[Tensor, " image"]:
        """Whether the target of every row is predicted on the original image; passed unless it is known."""
        return self.classifier.predicts(self.logits, self.targets)

    @property
    def logits(self) -> Float[Tensor, "image class"]:
        """Logits of every row on the original image; passed unless they are known."""
        batch = self.batch(self.pixels, range(len(self)), "original")
        batch.know(self.passes)
        return image_logits(batch)

    def original(self, explainer: Explainer) -> Attribution:
        """Attributions of the unchanged images, computed once."""
        if explainer not in self._originals:
            self.explain_originals((explainer,))
        return self._originals[explainer]

    def explain_originals(self, explainers: Sequence[Explainer]) -> None:
        """Compute what `original` returns for several explainers together; what is known is not computed again."""
        explainers = [explainer for explainer in explainers if explainer not in self._originals]
        if not explainers:
            return
        found: dict[Explainer, list[Attribution]] = defaultdict(list)

        def work(part: slice) -> None:
            rows = range(len(self))[part]
            batch = replace(
                self.batch(self.pixels[part], rows, "original", diagnostics=True),
                uploaded={
                    digest: to_device(found.maps[part], self.pixels.device) for digest, found in self.uploaded.items()
                },
            )
            batch.know(self.passes.take(part))
            for explainer, attribution in explain_together(batch, explainers).items():
                found[explainer].append(attribution)

        self.each(len(self), work)
        self._originals |= {explainer: joined(parts) for explainer, parts in found.items()}

    def repeat(self, explainer: Explainer) -> Attribution:
        """Attributions of the unchanged images by a stochastic explainer under another draw, computed once."""
        if explainer not in self._repeats:
            self.repeat_originals((explainer,))
        return self._repeats[explainer]

    def repeat_originals(self, explainers: Sequence[Explainer]) -> None:
        """Compute what `repeat` returns for several explainers together; passes known already are not made again."""
        found: dict[Explainer, list[Attribution]] = defaultdict(list)

        def work(part: slice) -> None:
            batch = self.batch(self.pixels[part], range(len(self))[part], REPEAT)
            batch.know(self.passes.take(part))
            for explainer, attribution in explain_together(batch, explainers).items():
                found[explainer].append(attribution)

        self.each(len(self), work)
        self._repeats |= {explainer: joined(parts) for explainer, parts in found.items()}

    def take(self, rows: Sequence[int]) -> ImageGroup:
        """Some of the rows, of which no map is known."""
        picked = numbers_on(list(rows), self.pixels.device, torch.long)
        return replace(
            self,
            pixels=self.pixels[picked],
            indices=tuple(self.indices[row] for row in rows),
            targets=self.targets[picked],
            probabilities=self.probabilities[picked],
            streams=self.streams.take(rows),
            boxes=tuple(self.boxes[row] for row in rows) if self.boxes else (),
            masks=tuple(self.masks[row] for row in rows) if self.masks else (),
            passes=self.passes.take(rows),
            uploaded={digest: found.take(rows) for digest, found in self.uploaded.items()},
            references={name: one.take(rows) for name, one in self.references.items()},
            _originals={},
            _repeats={},
        )

    def with_model(self, classifier: Classifier, passes: MadePasses) -> ImageGroup:
        """The same images with another model, of which only these passes are known: no map, no color."""
        return replace(self, classifier=classifier, passes=passes, colors={}, _originals={}, _repeats={})

    def batch(
        self,
        pixels: Float[Tensor, "copy channel height width"],
        owners: Sequence[int],
        views: str | Sequence[str],
        *,
        noise: Noise = "fresh",
        diagnostics: bool = False,
    ) -> Batch:
        """Changed copies, to be explained for the targets of the images they come from.

        Args:
            pixels: Changed copies, in pixel space.
            owners: Position of the image each copy comes from.
            views: Name of each copy's change.
            noise: Whether explainers draw the numbers of the unchanged image for each copy, or fresh ones by its view.
            diagnostics: Whether what explainers report about themselves will be read.
        """
        names = [views] * len(owners) if isinstance(views, str) else views
        positions = list(owners)
        streams = self.streams.take(positions)
        return Batch(
            self.classifier,
            pixels,
            self.targets[numbers_on(positions, self.targets.device, torch.long)],
            streams.sharing(names, self._kept) if noise == "common" else streams.viewing(names),
            micro_batch=self.micro_batches.size,
            shared=self.shared,
            diagnostics=diagnostics,
            colors=self.colors,
        )

    def explain(
        self,
        explainer: Explainer,
        pixels: Float[Tensor, "copy channel height width"],
        owners: Sequence[int],
        views: str | Sequence[str],
    ) -> Attribution:
        """Attributions of changed copies by one explainer; see `batch`."""
        return explain_together(self.batch(pixels, owners, views), (explainer,))[explainer]

    def read(self, batch: Batch) -> Prediction:
        """What the model says of the targets of copies; no pass that was made is made again.

        Raises:
            ModelOutputInvalid: A logit on the CPU is NaN or infinite; on an accelerator the engine asks later.
        """
        logits = image_logits(batch)
        self.classifier.guard.see(logits)
        return self.judge(logits, batch.targets)

    def judge(self, logits: Float[Tensor, "copy class"], targets: Int[Tensor, " copy"]) -> Prediction:
        """What logits say of targets."""
        probabilities = self.classifier.probabilities(logits).gather(1, targets[:, None])[:, 0]
        return Prediction(probabilities, self.classifier.predicts(logits, targets))

    def answers(
        self, logits: Float[Tensor, "copy class"], targets: Int[Tensor, " copy"], *, several_labels: bool | None = None
    ) -> Int[Tensor, " copy"]:
        """What must be equal in two images, or in two models, that are classified alike.

        The most probable class; where images have several labels, whether the target is predicted.

        Args:
            logits: What the model says of each copy.
            targets: The target of each copy.
            several_labels: Whether images have several labels; if None, whether they have in this model.
        """
        if several_labels is None:
            several_labels = self.classifier.scores == "sigmoid"
        return self.classifier.predicts(logits, targets).long() if several_labels else logits.argmax(dim=1)

    def color_prediction(self, color: str, pixels: Float[Tensor, "1 channel height width"]) -> Prediction:
        """What the model says of each row's target if its image were of one color; one pass for all that ever ask.

        Args:
            color: `black` or `mean`.
            pixels: One image of that color, in pixel space.
        """
        logits = color_logits(self.batch(self.pixels[:1], (0,), "original"), color, pixels)
        return self.judge(logits.expand(len(self), -1), self.targets)


@dataclass(frozen=True)
class ReferenceRows:
    """The rows of a group in a model with which checks compare the model under audit.

    Attributes:
        name: Name of that model.
        position: Its position in `models` of the request, for errors; None for the model of the baseline.
        group: The rows that it can be asked about, with the targets of the group under audit.
        rows: Position of each of them in the group under audit, ascending.
        parts: Of each of them, the part of the image that both models see: in the input of the model under audit, and
            in that of the reference model.
        missing: Position of any other row -> why the reference model cannot be asked about it.
    """

    name: str
    position: int | None
    group: ImageGroup
    rows: tuple[int, ...]
    parts: tuple[tuple[InputPart, InputPart], ...]
    missing: Mapping[int, str]

    def take(self, rows: Sequence[int]) -> ReferenceRows:
        """What belongs to some rows of the group under audit, ascending."""
        new = {row: position for position, row in enumerate(rows)}
        kept = [position for position, row in enumerate(self.rows) if row in new]
        return ReferenceRows(
            self.name,
            self.position,
            self.group.take(kept),
            tuple(new[self.rows[position]] for position in kept),
            tuple(self.parts[position] for position in kept),
            {new[row]: reason for row, reason in self.missing.items() if row in new},
        )

    @property
    def exact(self) -> ReferenceRows:
        """The same with the reference model in float32, not compiled, and without results of earlier passes."""
        return replace(self, group=self.group.with_model(self.group.classifier.exact, MadePasses()))
