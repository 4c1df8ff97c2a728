"""The shard results of one model, joined in the order of the report's images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from auditcore.contracts.artifacts import Artifact
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.probe import ProbeAnswers
from auditcore.contracts.report import ReportModel
from auditcore.contracts.shards import ExplainedClass, ImageRecord, Measurement, ShardResult
from auditcore.errors import DigestMismatch, ModelChanged
from auditcore.report.model_names import architecture_of
from auditcore.report.performance import performance_of

NOT_MEASURED = "this image was not measured"

Key = tuple[str, str | None, str, str | None]


@dataclass(frozen=True)
class MeasuredModel:
    """All results of the compute wave for one model.

    Attributes:
        name: Its name in an audit of several models; None in an audit of one.
        described: The model as requested and as loaded.
        records: Image index -> record of the image, in index order.
        shards: Results of its compute wave, in index order.
    """

    name: str | None
    described: ReportModel
    records: Mapping[int, ImageRecord]
    shards: Sequence[ShardResult]

    @property
    def targets(self) -> dict[int, tuple[ExplainedClass, ...]]:
        """Image index -> explained classes, for the images it used."""
        return {index: record.targets for index, record in self.records.items() if record.targets}

    @property
    def not_applicable(self) -> dict[str, str]:
        """Explainer -> why it cannot run."""
        # a shard without usable images does not have this information
        return next((shard.not_applicable for shard in self.shards if any(one.targets for one in shard.images)), {})

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """Its pictures, image by image."""
        return tuple(artifact for shard in self.shards for artifact in shard.artifacts)

    def measurements(self, images: Sequence[int]) -> tuple[Measurement, ...]:
        """Return every measurement over these images, in the order of the first shard that has it.

        Args:
            images: Indices; an image that the model did not use has no value, and its record gives the reason.
        """
        parts: dict[Key, list[tuple[tuple[int, ...], Measurement]]] = {}
        for shard in self.shards:
            used = tuple(record.index for record in shard.images if record.targets)
            for one in shard.measurements:
                parts.setdefault((one.check, one.explainer, one.metric, one.variant), []).append((used, one))
        return tuple(self._joined(same, images) for same in parts.values())

    def _joined(self, parts: Sequence[tuple[tuple[int, ...], Measurement]], images: Sequence[int]) -> Measurement:
        values: dict[int, float | None] = {}
        curves: dict[int, tuple[float | None, ...] | None] = {}
        per_target: dict[int, tuple[float | None, ...]] = {}
        reasons: dict[int, str] = {}
        for used, one in parts:
            values |= zip(used, one.values, strict=True)
            reasons |= one.reasons
            if one.curve is not None:
                curves |= zip(used, one.curve.values, strict=True)
            per_target |= zip(used, one.per_target or [(value,) for value in one.values], strict=True)
        reasons |= {index: self.why_missing(index) for index in images if index not in values}
        first = parts[0][1]
        several = any(len(explained) > 1 for explained in self.targets.values())
        return first.model_copy(
            update={
                "values": tuple(values.get(index) for index in images),
                "reasons": dict(sorted(reasons.items())),
                "curve": None
                if first.curve is None
                else first.curve.model_copy(update={"values": tuple(curves.get(index) for index in images)}),
                "per_target": tuple(per_target.get(index, ()) for index in images) if several else None,
            }
        )

    def why_missing(self, index: int) -> str:
        """Return why an image has no value for this model."""
        return self.records[index].reason or NOT_MEASURED


def measured_model(name: str | None, reference: ModelReference, results: Iterable[ShardResult]) -> MeasuredModel:
    """Join the compute wave of one model.

    Args:
        name: Its name in the audit.
        reference: The model as requested.
        results: Shard results of all models and waves, any order.

    Raises:
        DigestMismatch: Shards ran on different weights.
        ModelChanged: A server served different models to different shards.
    """
    own = [result for result in results if result.model_name == name]
    _refuse_other_answers([result.probe for result in own if result.probe is not None])
    computed = [result for result in own if result.wave == "compute"]
    shards = sorted(computed, key=lambda result: result.images[0].index)
    model = shards[0].model
    for shard in own:
        if shard.model.digest != model.digest:
            raise DigestMismatch(expected=model.digest, actual=shard.model.digest, field="model.weights")
    records = {
        record.index: record
        for record in sorted((one for shard in shards for one in shard.images), key=lambda one: one.index)
    }
    return MeasuredModel(
        name=name,
        described=ReportModel(
            name=name,
            reference=reference,
            digest=model.digest,
            classes=model.classes,
            parameters=model.parameters,
            trained=model.trained,
            preprocessing=model.preprocessing,
            architecture=architecture_of(reference, model.structure),
            performance=performance_of(records.values(), model.scores),
            capabilities=model.capabilities,
            signature=model.signature,
            layers=next((shard.layers for shard in shards if shard.layers), {}),
        ),
        records=records,
        shards=shards,
    )


def _refuse_other_answers(probes: Sequence[ProbeAnswers]) -> None:
    """Refuse shards whose servers answered the probe differently."""
    # each worker compares a server only with its earlier answers to the same worker
    for probe in probes:
        if probe.is_of_another_model(probes[0]):
            msg = (
                f"the server served different models to parts of the audit: a probability of the probe changed by "
                f"{probe.moved_from(probes[0]):.3g} between them; submit the audit again once the model no longer "
                "changes"
            )
            raise ModelChanged(msg, field="model.version")
