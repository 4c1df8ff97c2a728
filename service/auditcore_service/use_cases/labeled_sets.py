"""Labeled images that a request names, as far as they are known without looking at them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

from auditcore.contracts.image_names import inline_name, uri_name
from auditcore.contracts.images import (
    ImageBatchReference,
    ImagesReference,
    ImageUris,
    InlineImages,
    Labels,
    TensorImages,
    inline_manifest,
    labels_of,
)
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.models import FactoryModel, Scores, TimmModel, TorchvisionModel
from auditcore.contracts.training.class_shares import held_out_images
from auditcore.contracts.training.label_rules import check_labels
from auditcore.contracts.training.request import HeldOut
from auditcore.errors import InputError, InvalidRequest, LimitExceeded
from auditcore.orchestration.reading_images import AsksForImages
from auditcore_service.principals import Principal
from auditcore_service.settings import Settings
from auditcore_service.store.batches import find_batch
from auditcore_service.store.database import Database
from auditcore_service.use_cases.deleted_objects import missing_batch
from auditcore_service.use_cases.image_batches import ImageBatches
from auditcore_service.use_cases.refusals import Refusal


@final
@dataclass(frozen=True)
class LabeledSet:
    """Images of a request.

    Attributes:
        reference: Where they are; files of tensors with their digest.
        names: Name of each, if it has one.
        labels: Of each.
        digests: Of each; None where it is not known before the image is fetched.
    """

    reference: ImagesReference
    names: Sequence[str | None]
    labels: Sequence[Labels | None]
    digests: Sequence[str | None]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)


@final
class LabeledSets:
    """Finds the images of requests."""

    def __init__(self, settings: Settings, *, database: Database, batches: ImageBatches) -> None:
        self._settings = settings
        self._database = database
        self._batches = batches

    def find(self, principal: Principal, request: AsksForImages, images: ImagesReference) -> LabeledSet:
        """The images of one reference. Errors name the field `images`.

        Args:
            principal: Whose images they are.
            request: The models that the images have to fit.
            images: Where they are.

        Raises:
            InputError: They are not there, may not be read, or are too many.
            InvalidUpload: An inline image is empty.
        """
        self._settings.access.check_images(images)
        match images:
            case ImageBatchReference(digest=digest):
                with self._database.reading(principal.tenant) as connection:
                    manifest = find_batch(connection, digest)
                    if manifest is None:
                        raise InvalidRequest(missing_batch(connection, digest).message, field="images.digest")
                entries = manifest.entries
                return LabeledSet(
                    images,
                    [entry.name for entry in entries],
                    [entry.label for entry in entries],
                    [entry.digest for entry in entries],
                )
            case ImageUris(uris=uris):
                limit = self._settings.batch_images
                if len(uris) > limit:
                    raise LimitExceeded(
                        what="the list of images", limit=limit, actual=len(uris), unit="images", field="images.uris"
                    )
                return LabeledSet(
                    images,
                    [uri_name(one.uri) for one in uris],
                    [one.label for one in uris],
                    [one.sha256 for one in uris],
                )
            case InlineImages(images=inline):
                self._batches.check_inline(inline)
                names = [inline_name(number) for number in range(len(inline))]
                digests = [entry.digest for entry in inline_manifest(inline).entries]
                return LabeledSet(images, names, [one.label for one in inline], digests)
            case TensorImages() as tensors:
                count, pinned = self._batches.pin_tensors(principal, tensors, request)
                return LabeledSet(pinned, [None] * count, pinned.labels or [None] * count, [None] * count)


def require_labels(images: LabeledSet, model: ModelReference, *, field: str = "images") -> None:
    """Refuse images without a label that the model can learn.

    Args:
        images: The images.
        model: The model.
        field: The field of the request that names the images.

    Raises:
        InputError: One has no usable label.
    """
    for index, (name, label) in enumerate(zip(images.names, images.labels, strict=True)):
        check_labels(
            labels_of(label),
            index=index,
            name=name,
            classes=_classes_of(model),
            scores=scores_of(model),
            field=field,
        )


def count_held_out(images: LabeledSet, held_out: HeldOut) -> int:
    """Number of images that are held out for validation.

    Raises:
        InvalidRequest: No class has a second image.
    """
    counts: dict[int, int] = {}
    for label in images.labels:
        first = min(labels_of(label))
        counts[first] = counts.get(first, 0) + 1
    taken = sum(held_out_images(count, held_out.share) for count in counts.values())
    if not taken:
        msg = "no class has two images, so none can be held out; send images for validation, or more training images"
        raise InvalidRequest(msg, field="validation")
    return taken


def scores_of(model: ModelReference) -> Scores:
    """How logits of a model become probabilities."""
    return model.scores if isinstance(model, TorchvisionModel | TimmModel | FactoryModel) else "softmax"


def _classes_of(model: ModelReference) -> int | None:
    """Number of classes, if the reference says it."""
    return model.classes if isinstance(model, TorchvisionModel | TimmModel) else None


@contextmanager
def naming(field: str) -> Iterator[None]:
    """Let errors about images name another field than `images`, such as `validation`.

    Args:
        field: The field of the request.
    """
    try:
        yield
    except (InputError, Refusal) as error:
        if error.field is not None:
            error.field = error.field.replace("images", field, 1)
        raise
