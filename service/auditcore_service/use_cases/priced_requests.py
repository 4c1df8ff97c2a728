"""Every check that a request passes before it is accepted, and its price. Stores nothing."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

from auditcore.contracts.capabilities import WHITE_BOX
from auditcore.contracts.images import ImageBatchReference, ImageUris, InlineImages, TensorImages, inline_manifest
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.request import AuditRequest
from auditcore.costs.cost_model import Estimate
from auditcore.errors import InvalidRequest, LimitExceeded
from auditcore.orchestration.prepared_request import PreparedRequest, prepare_request, with_baseline_model
from auditcore_service.principals import Principal
from auditcore_service.settings import Settings
from auditcore_service.store.batches import batch_size
from auditcore_service.store.database import Database
from auditcore_service.use_cases.baselines import Baselines
from auditcore_service.use_cases.deleted_objects import missing_batch
from auditcore_service.use_cases.estimates import Estimates, check_request_limits, objection_to
from auditcore_service.use_cases.image_batches import ImageBatches
from auditcore_service.use_cases.policies import Policies
from auditcore_service.use_cases.uploaded_maps import MapUploads


@final
@dataclass(frozen=True)
class PricedRequest:
    """A request that can be carried out, and its price.

    Attributes:
        request: The request about models as they are now, by version and digest, with the whole policy.
        plan: The plan in full.
        images: Number of images.
        estimate: What the audit is expected to cost.
        longest_image_s: Seconds that one image takes in the longest wave of the slowest model, for sizing shards.
        objection: Why the operator's budget forbids this price, and what to reduce; None if it does not.
    """

    request: AuditRequest
    plan: AuditPlan
    images: int
    estimate: Estimate
    longest_image_s: float
    objection: str | None


@final
class PricedRequests:
    """The preparation that a price and a submission share, so that both accept and refuse the same requests."""

    def __init__(
        self,
        settings: Settings,
        *,
        database: Database,
        batches: ImageBatches,
        maps: MapUploads,
        policies: Policies,
        baselines: Baselines,
    ) -> None:
        self._settings = settings
        self._database = database
        self._batches = batches
        self._maps = maps
        self._policies = policies
        self._baselines = baselines
        self._estimates = Estimates(settings)

    def price(self, principal: Principal, request: AuditRequest) -> PricedRequest:
        """Check a request and price it by what workers have measured until now.

        Raises:
            InputError: The request cannot be carried out.
            InvalidUpload: An inline image is empty.
        """
        prepared = prepare_request(
            request, self._settings.access, find_policy=functools.partial(self._policies.find, principal)
        )
        request, images = self._counted(principal, prepared.request)
        prepared = self._with_baseline(principal, replace(prepared, request=request), images)
        request, plan = prepared.request, prepared.plan
        # only a worker can find out what an unknown model allows; all is assumed, so that no price is too low
        capabilities = [
            WHITE_BOX if found.capabilities is None else found.capabilities for found in prepared.resolutions
        ]
        with self._database.reading(principal.tenant) as connection:
            self._maps.check(principal, connection, plan, images=images)
            price = self._estimates.price(connection, request, plan, images=images, model_capabilities=capabilities)
        check_request_limits(request, plan, images=images, model_capabilities=capabilities)
        return PricedRequest(
            request=request,
            plan=plan,
            images=images,
            estimate=price.estimate,
            longest_image_s=price.longest_image_s,
            objection=objection_to(price.estimate, plan, self._settings),
        )

    def _with_baseline(self, principal: Principal, prepared: PreparedRequest, images: int) -> PreparedRequest:
        """The request with its baseline pinned, and with the model of the baseline if a check compares with it."""
        request = prepared.request
        if request.baseline is None:
            return prepared
        models = [name for name, _ in request.references]
        digests = self._digests(principal, request, images)
        pinned, report = self._baselines.pin(principal, request.baseline, models=models, images=digests)
        prepared = replace(prepared, request=request.model_copy(update={"baseline": pinned}))
        return with_baseline_model(prepared, report, self._settings.access)

    def _digests(self, principal: Principal, request: AuditRequest, count: int) -> Sequence[str | None]:
        """The digest of each image; None where it is not known before the image is fetched."""
        match request.images:
            case ImageBatchReference(digest=digest):
                return [entry.digest for entry in self._batches.get(principal, digest).entries]
            case ImageUris(uris=uris):
                return [image.sha256 for image in uris]
            case InlineImages(images=inline):
                return [entry.digest for entry in inline_manifest(inline).entries]
            case TensorImages():
                return [None] * count

    def _counted(self, principal: Principal, request: AuditRequest) -> tuple[AuditRequest, int]:
        """The request, and its number of images; a file of tensors is pinned, so that this number stays true."""
        match request.images:
            case ImageBatchReference(digest=digest):
                with self._database.reading(principal.tenant) as connection:
                    size = batch_size(connection, digest)
                    if size is None:
                        raise InvalidRequest(missing_batch(connection, digest).message, field="images.digest")
                return request, size
            case ImageUris(uris=uris):
                limit = self._settings.batch_images
                if len(uris) > limit:
                    raise LimitExceeded(
                        what="the list of images", limit=limit, actual=len(uris), unit="images", field="images.uris"
                    )
                return request, len(uris)
            case InlineImages(images=inline):
                self._batches.check_inline(inline)
                return request, len(inline)
            case TensorImages() as tensors:
                count, pinned = self._batches.pin_tensors(principal, tensors, request)
                return request.model_copy(update={"images": pinned}), count
