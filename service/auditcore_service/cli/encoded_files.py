"""Image files with what is known of them, as the library takes them."""

from __future__ import annotations

from collections.abc import Sequence

from auditcore.contracts.access import Limits
from auditcore.images.encoded import EncodedImage
from auditcore.images.patient_data import bytes_to_keep
from auditcore_service.cli.found_images import ImageFile, images_in
from auditcore_service.use_cases.annotations import GivenAnnotations, read_annotations


def encode_files(files: Sequence[ImageFile], limits: Limits, given: GivenAnnotations) -> list[EncodedImage]:
    """The images of files, in order, with labels, boxes and masks.

    Args:
        files: Image files; one of tensors may hold several images.
        limits: Of a file with more bytes, only one more is read; the image is then left out with its reason.
        given: What is known of the images.

    Raises:
        CommandError: A file of tensors cannot be used.
        InvalidUpload: What is known of the images does not fit them.
    """
    found = [image for file in files for image in images_in(file, limits)]
    annotations = read_annotations(given, [name for name, _ in found])
    return [
        # of DICOM files what a service would keep, so that the batch is the same
        EncodedImage(index, name, bytes_to_keep(data), known.label, known.boxes, known.masks)
        for index, ((name, data), known) in enumerate(zip(found, annotations, strict=True))
    ]
