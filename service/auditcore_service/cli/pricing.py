"""The command `estimate`: what an audit costs, from a service or only from the plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from auditcore.client.answers import EstimateAnswer
from auditcore.contracts.access import AccessRules
from auditcore.contracts.images import ImageBatchReference, ImageUris, InlineImages, TensorImages
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shipped_policies import with_policy
from auditcore.costs.cost_model import ModelSpeed, estimate_of
from auditcore.errors import InputError
from auditcore.orchestration.prepared_request import plan_in_full
from auditcore.orchestration.reading_images import open_tensors
from auditcore_service.cli.found_images import count_images, find_images
from auditcore_service.cli.inputs import read_request, resolve_paths
from auditcore_service.cli.outcome import CommandError, mistakes
from auditcore_service.cli.service_client import connected, upload_files
from auditcore_service.settings import Settings
from auditcore_service.use_cases.estimates import objection_to

_UNKNOWN_BATCH = f"sha256:{'0' * 64}"


def price_locally(path: Path, *, images: Sequence[Path], settings: Settings) -> EstimateAnswer:
    """Price a request file without a service, at the speed that the settings assume.

    Args:
        path: The request file.
        images: Image files and folders that take the place of the request's own; only counted.
        settings: For the assumed speed and the budget.

    Raises:
        CommandError: The request is not valid, or does not say how many images it has.
    """
    document = read_request(path)
    resolve_paths(document, path.absolute().parent)
    count = count_images(find_images(images).files, settings.limits) if images else None
    if count is not None:
        document["images"] = ImageBatchReference(digest=_UNKNOWN_BATCH).model_dump()
    try:
        request = AuditRequest.model_validate(document)
    except ValidationError as error:
        message = f"{path} is not a valid request"
        raise CommandError(message, errors=mistakes(error.errors(), document), code="invalid_request") from error
    access = settings.access
    access = access.model_copy(update={"file_roots": (*access.file_roots, path.absolute().parent)})
    try:
        if count is None:
            count = _count(request, path, access)
        plan = plan_in_full(with_policy(request))
    except InputError as error:
        message = f"{path} is not a valid request"
        raise CommandError(message, errors=[(error.field, error.message)], code=error.code) from error
    speeds = [ModelSpeed.assumed(settings.passes_per_s, reference, name=name) for name, reference in request.references]
    estimate = estimate_of(plan, images=count, speeds=speeds)
    objection = objection_to(estimate, plan, settings)
    return EstimateAnswer(estimate=estimate, within_budget=objection is None, advice=objection)


def ask_service(
    path: Path, *, images: Sequence[Path], url: str, token: Callable[[], str] | None = None
) -> EstimateAnswer:
    """Price a request file by what the workers of a service have measured.

    Raises:
        CommandError: The service refuses the request or cannot be reached.
    """
    document = read_request(path)
    with connected(url, token=token) as client:
        if images:
            document["images"] = {"kind": "batch", "digest": upload_files(client, find_images(images).files)}
        return client.estimate(document)


def show_price(answer: EstimateAnswer, console: Console, *, as_json: bool) -> None:
    """Print an answer, for people or for programs."""
    if as_json:
        print(answer.model_dump_json(indent=2))  # noqa: T201 - read by programs
        return
    one = answer.estimate
    source = f"measured on {one.device}" if one.basis == "measured" else "assumed: no worker has run this model yet"
    console.print(
        f"{one.images} images: {one.passes:,} forward passes' worth of work "
        f"({one.forward_images:,} forward, {one.backward_images:,} backward)\n"
        f"about {one.seconds:,.0f} s of one worker at {one.passes_per_s:,.1f} passes per second ({source})",
        highlight=False,
    )
    if answer.advice is not None:
        console.print(answer.advice, style="red", highlight=False)


def _count(request: AuditRequest, path: Path, access: AccessRules) -> int:
    match request.images:
        case ImageUris(uris=uris):
            return len(uris)
        case InlineImages(images=inline):
            return len(inline)
        case TensorImages() as tensors:
            with open_tensors(tensors, access) as (_, batch):
                return batch.images
        case ImageBatchReference():
            message = (
                f"{path} names a stored batch, and only a service knows how many images it has; "
                "add --url, or --images with the files"
            )
            raise CommandError(message)
