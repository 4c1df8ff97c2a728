"""The steps of one audit and their order, for the library and for the workers of the service."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import chain
from typing import final

from auditcore.contracts.automatic_intervals import Quantities, automatic_intervals, with_shared_intervals
from auditcore.contracts.image_names import short_name
from auditcore.contracts.model_faults import blaming_model
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy import questions_of
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shards import EndOfProcess, ShardResult
from auditcore.contracts.speed import deviation_images
from auditcore.engine.pictures import Pictures
from auditcore.engine.shard import run_shard
from auditcore.engine.shard_task import ReferenceTask, Runtime, ShardTask
from auditcore.engine.shared import reduce_shared
from auditcore.errors import InvalidRequest
from auditcore.images.encoded import EncodedImage
from auditcore.images.uploaded_maps import uploaded_maps
from auditcore.models.classifier import Classifier
from auditcore.orchestration.sharding import ShardRange
from auditcore.orchestration.storage import AuditStorage
from auditcore.report.assemble import assemble
from auditcore.report.pictures import detail_of
from auditcore.report.stopping import Conclusion, image_order


@final
class AuditRun:
    """One audit: its shards may run in any order and in any process, if its storage is shared.

    Two rules bind the caller: all shards of the measure wave, of one model or where `models_depend` of all models, come
    before the shards of the compute wave; and the report is assembled after all of them.

    Attributes:
        order: Indices of the images in the order in which they are audited; None without a stop rule, which leaves the
            order of the batch.
    """

    def __init__(
        self,
        audit_id: str,
        request: AuditRequest,
        plan: AuditPlan,
        *,
        images: int,
        storage: AuditStorage,
        picture_images: int,
    ) -> None:
        """Remember the audit; nothing is read yet.

        Args:
            audit_id: Name of the audit in its report.
            request: What to audit, with resolved models.
            plan: The plan in full.
            images: Number of images of the batch.
            storage: Holds the images and everything that the audit makes.
            picture_images: How many images get pictures, counted from the first; 0 for none.
        """
        self._id = audit_id
        self._request = request
        self._plan = plan
        self._images = images
        self._storage = storage
        self.order = None if request.stop is None else image_order(plan.seed, images)
        self._shared: dict[str | None, Quantities] = {}
        self._pictures = self._pictures_of(picture_images) if picture_images else None

    def _pictures_of(self, most: int) -> Pictures:
        """How the first images are drawn."""
        maps = min(most, self._images) * len(self._plan.explainers) * len(self._request.references)
        return Pictures(images=most, put=self._storage.keep_picture, detail=detail_of(maps), order=self.order)

    def load_model(self, model: int, load: Callable[[ModelReference], Classifier]) -> Classifier:
        """Load one of the request's models.

        Args:
            model: Its position among the models that the request loads.
            load: From a reference to the model on its device.

        Raises:
            InputError: It cannot be loaded; `field` says which of several models.
        """
        _, reference = self._request.loaded_models[model]
        with self._blaming(model):
            return load(reference)

    def _blaming(self, model: int) -> AbstractContextManager[None]:
        """Complete the errors of a model, by its position among the models that the request loads."""
        name, _ = self._request.loaded_models[model]
        return blaming_model(name, self._place(model))

    def _place(self, model: int) -> int | None:
        """Position of a model under audit; None for the model of the baseline."""
        return model if model < len(self._request.references) else None

    def references_of(self, shard: ShardRange) -> dict[str, int]:
        """The models with which a shard compares its own: name -> position among the models that the request loads."""
        if shard.wave != "compute":
            return {}
        name, _ = self._request.loaded_models[shard.model]
        wanted = self._plan.for_model(name).reference_models
        return {
            other: position
            for position, (other, _) in enumerate(self._request.loaded_models)
            if other is not None and other in wanted
        }

    def run_shard(
        self, shard: ShardRange, runtime: Runtime, *, left_out: Mapping[int, EndOfProcess] | None = None
    ) -> ShardResult:
        """Read the images of a shard and run its wave on them.

        A shard whose images are in a random order is never ended early: its images are computed in the order of the
        batch, so that those done first are not the first of the shard.

        Args:
            shard: Which wave, model and images.
            runtime: The loaded model, those of `references_of`, and how to run them; this audit sets the pictures
                itself.
            left_out: Index of an image that has ended every process that computed it -> how; such images are never
                decoded.

        Raises:
            AuditCancelled: `runtime.progress` has raised it.
            InputError: An image, a file of maps or the model cannot be used, or classes have names that do not fit it.
        """
        name, _ = self._request.loaded_models[shard.model]
        self._check_class_names(runtime.classifier, name)
        images = self._read_images(shard, runtime.progress)
        task = ShardTask(
            plan=self._plan.for_model(name),
            wave=shard.wave,
            images=images,
            shared=self._quantities(shard.model) if shard.wave == "compute" else {},
            uploaded=uploaded_maps(self._plan, self._storage.read_maps),
            model_name=name,
            audit_images=self._images,
            order=self.order,
            deviation_images=max(0, deviation_images(self._images) - shard.start),
            references={
                other: ReferenceTask(self._place(position), self._quantities(position))
                for other, position in self.references_of(shard).items()
            },
            left_out=left_out or {},
        )
        ordered = self.order is not None and shard.wave == "compute"
        enough = (lambda: False) if ordered else runtime.enough
        with self._blaming(shard.model):
            return run_shard(task, replace(runtime, pictures=self._pictures, enough=enough))

    def _check_class_names(self, classifier: Classifier, name: str | None) -> None:
        given = len(self._request.class_names)
        if given and given != classifier.classes:
            which = "the model" if name is None else f"the model {name!r}"
            msg = (
                f"{given} classes have names, and {which} has {classifier.classes}, so labels may mean other classes; "
                "give the names of all classes in the model's order"
            )
            raise InvalidRequest(msg, field="class_names")

    def stop_at(self) -> int | None:
        """Number of images in the random order after which the audit may end; None while it must go on."""
        if self._request.stop is None:
            return None
        models = [name for name, _ in self._request.references if name is not None]
        rows = frozenset(question.row for question in questions_of(self._request.conditions, self._plan, models))
        observations = self._storage.observations(rows)
        return Conclusion(self._request, self._plan, images=self._images, observations=observations).stop_at

    def assemble(
        self,
        *,
        attempts: int,
        started_at: str | None = None,
        finished_at: str | None = None,
        estimated_seconds: float | None = None,
        baseline: AuditReport | None = None,
    ) -> AuditReport:
        """Make the report from the results of all shards.

        Args:
            attempts: How often a shard was started, including starts whose result was lost.
            started_at: When the first shard began, ISO 8601.
            finished_at: When the last shard ended, ISO 8601.
            estimated_seconds: Expected seconds of workers, if there was an estimate.
            baseline: The earlier report that conditions on changes compare with.

        Raises:
            NoUsableImages: Every model has excluded every image.
            DigestMismatch: Shards of one model ran on different weights.
        """
        loaded = self._request.loaded_models
        measured = [self._measured(model) for model in range(len(loaded))]
        of_audited = zip(self._request.references, measured, strict=False)
        return assemble(
            audit_id=self._id,
            request=self._request,
            plan=self._plan,
            results=(*chain.from_iterable(own for own, _ in measured), *self._storage.results("compute")),
            shared={name: shared for (name, _), (_, shared) in of_audited},
            attempts=attempts,
            estimated_seconds=estimated_seconds,
            started_at=started_at,
            finished_at=finished_at,
            image_count=self._images,
            baseline=baseline,
        )

    def _read_images(self, shard: ShardRange, progress: Callable[[float], None]) -> list[EncodedImage]:
        """The images of a shard in index order, with names of a length that every part can store."""
        indices: Sequence[int] = range(shard.start, shard.stop)
        if self.order is not None and shard.wave == "compute":
            indices = sorted(self.order[shard.start : shard.stop])
        images = self._storage.read_images(indices, progress=progress)
        return [image if image.name is None else replace(image, name=short_name(image.name)) for image in images]

    def _quantities(self, model: int) -> Quantities:
        """The quantities of the whole audit with which a model computes.

        Read once: no shard of the compute wave runs before the shards that it depends on, and finished results never
        change.
        """
        loaded = self._request.loaded_models
        name, _ = loaded[model]
        if name not in self._shared:
            # models under audit that share automatic intervals depend on each other, others only on themselves
            shares = self._place(model) is not None and any(automatic_intervals(self._plan))
            together = range(len(self._request.references)) if shares else (model,)
            measured = {loaded[number][0]: self._measured(number)[1] for number in together}
            self._shared |= with_shared_intervals(self._plan, measured)
        return self._shared[name]

    def _measured(self, model: int) -> tuple[list[ShardResult], dict[str, tuple[float, ...]]]:
        """The measure wave of a model without its samples, which may be large, and the quantities they reduce to."""
        lean: list[ShardResult] = []

        def each() -> Iterator[ShardResult]:
            for result in self._storage.results("measure", model=model):
                lean.append(result.model_copy(update={"shared": ()}))
                yield result

        return lean, reduce_shared(self._plan, each())
