"""The command `audit`: an audit in this process, from a request file, without service, queue or database."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from auditcore.contracts.access import AccessRules
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.orchestration.reading_images import manifest_digest
from auditcore_service.cli.computing import chosen_device, computing
from auditcore_service.cli.found_images import ImageFile
from auditcore_service.cli.given_baseline import OPTION
from auditcore_service.cli.given_files import read_report_file
from auditcore_service.cli.inputs import read_request, resolve_paths
from auditcore_service.cli.outcome import CommandError, mistakes
from auditcore_service.cli.progress import ShowProgress
from auditcore_service.use_cases.annotations import GivenAnnotations, read_class_names
from auditcore_service.use_cases.refusals import InvalidUpload

if TYPE_CHECKING:
    from auditcore.images.encoded import EncodedImage


def audit_file(
    plan: Path,
    *,
    images: Sequence[ImageFile],
    access: AccessRules,
    device: str,
    micro_batch: int | None = None,
    annotations: GivenAnnotations | None = None,
    progress: ShowProgress,
    pictures: MutableMapping[str, bytes] | None = None,
    baseline: Path | None = None,
) -> AuditReport:
    """Audit as a request file says.

    URIs without a scheme are paths relative to the file's folder, and that folder may be read. Images given
    here take the place of those in the file; they form the batch that uploading them would form.

    Args:
        plan: The request file.
        images: Image files; none for those of the request file.
        access: What else may be reached.
        device: Where the model runs: auto, cpu, cuda, cuda:0 ...
        micro_batch: Images that pass at once; measured if None.
        annotations: What is known of `images`.
        progress: Called with the share done, in [0, 1] or None while it is not known, and the stage.
        pictures: Receives the pictures of the page by their digest; nothing is drawn if None.
        baseline: Report of an earlier audit on the same images, in place of the baseline of the request file.

    Raises:
        CommandError: The audit cannot be carried out; the message names the field and how to fix it.
    """
    folder = plan.absolute().parent
    earlier = None if baseline is None else read_report_file(baseline)
    document = read_request(plan)
    resolve_paths(document, folder)
    if images:
        progress(None, "reading the images")
    given = annotations or GivenAnnotations()
    encoded = encode(images, access, given) if images else None
    if encoded is not None:
        class_names = read_class_names(given, [image.name or "" for image in encoded])
        # what the service gives to the same files, annotations and names of classes
        document["images"] = ImageBatchReference(digest=manifest_digest(encoded, class_names)).model_dump()
        if class_names:
            document.setdefault("class_names", class_names)
    try:
        request = AuditRequest.model_validate(document)
    except ValidationError as error:
        message = f"{plan} is not a valid request"
        raise CommandError(message, errors=mistakes(error.errors(), document), code="invalid_request") from error
    if request.baseline is not None and earlier is None:
        message = f"{plan} names a baseline that only a service stores; give its report with {OPTION} FILE"
        raise CommandError(message, code="invalid_request")

    progress(None, "loading torch")
    device = chosen_device(device)
    from auditcore.auditing import audit  # noqa: PLC0415 - loads torch

    progress(None, f"loading the model on {device}")
    with computing(f"the audit of {plan} cannot be carried out"):
        return audit(
            request,
            images=encoded,
            access=access.model_copy(update={"file_roots": (*access.file_roots, folder)}),
            device=device,
            micro_batch=micro_batch,
            progress=lambda share: progress(share, "auditing"),
            pictures=pictures,
            baseline=earlier,
        )


def encode(files: Sequence[ImageFile], access: AccessRules, given: GivenAnnotations) -> list[EncodedImage]:
    """Read image files with what is known of them.

    Raises:
        CommandError: What is known does not fit them.
    """
    from auditcore_service.cli.encoded_files import encode_files  # noqa: PLC0415 - only `audit` needs the library's images

    try:
        return encode_files(files, access.limits, given)
    except InvalidUpload as error:
        message = "the images cannot be taken as they are described"
        raise CommandError(
            message, errors=[(f"--{(error.field or '').replace('_', '-')}", error.message)], code=error.code
        ) from error
