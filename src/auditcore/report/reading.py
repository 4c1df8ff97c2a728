"""Read reports of this and earlier schema versions into the current contract.

Reports are stored permanently while contracts change. A field that an old document lacks gets the value that describes
how the audit really ran, never the current default. Numbers are not changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from auditcore.contracts.report import SCHEMA_VERSION, AuditReport

Entry = Mapping[str, Any]
"""A JSON object of a document, or the document itself."""


@dataclass(frozen=True)
class Addition:
    """A field that documents of an earlier schema lack.

    Attributes:
        path: Path of the field, such as `plan.checks[deletion].grid`. Brackets contain the kind of the entries that
            have it, or `*` for all entries. Entries that are missing in a document are skipped.
        value: The value that describes how the audit ran, or a function that returns it from the entry and the whole
            document.
    """

    path: str
    value: JsonValue | Callable[[Entry, Entry], JsonValue]


@dataclass(frozen=True)
class Move:
    """A field of documents of an earlier schema that has been renamed or removed.

    Attributes:
        path: Old path, as in `Addition`.
        to: Current name, in the same place; None if the field was removed.
        convert: Old value -> current value.
    """

    path: str
    to: str | None
    convert: Callable[[Any], JsonValue] = lambda value: value


@dataclass(frozen=True)
class Schema:
    """How documents of an earlier schema are converted to the current one.

    Attributes:
        additions: Fields that they lack.
        moves: Fields that have been renamed or removed.
        renamed_metrics: Kind of check and old name of a metric -> its current name.
        definitions: Old definitions that have changed; sentences for a reader of the page.
    """

    additions: tuple[Addition, ...]
    moves: tuple[Move, ...]
    renamed_metrics: Mapping[tuple[str, str], str]
    definitions: tuple[str, ...]


_SQUARE_CROP: Mapping[str, JsonValue] = {
    "fit": "shorter",
    "crop_offset": "round",
    "pad": 0.0,
    "keep_final": True,
    "antialias": True,
    "colors": None,
    "bits": None,
    "range": None,
    "window": None,
    "pictured": None,
}
"""What the only preprocessing of schema 1.1 was: images of the crop's size were left as they are."""

_PACKAGED = ("mar", "mlflow")
_WITH_SELECT = ("factory", "torchscript", "torch_export", "onnx", *_PACKAGED)
_WITH_OUTPUTS = ("torchvision", "timm", "factory", "mlflow", "huggingface", "torchscript", "torch_export")
"""Kinds of model references that got the field after schema 1.1."""

_WITH_PREPROCESSING = (*_WITH_OUTPUTS, "mar", "onnx", "open_inference", "torchserve")


def _offers_layers(capabilities: Entry, _document: Entry) -> JsonValue:
    """Return whether layers and weights were available: gradients, layers and weights were one field."""
    return capabilities.get("gradients") is not False


def _severity(condition: Entry, _document: Entry) -> JsonValue:
    """Return the severity; for a condition that passed it was not recorded and had no effect on the verdict."""
    return "warn" if condition.get("status") == "warned" else "fail"


def _images_behind(condition: Entry, document: Entry) -> JsonValue:
    """Return the number of images with a value of the result that a condition was judged by."""
    listed = (result for part in ("results", "controls") for result in _objects(document.get(part)))
    return next((result.get("n") for result in listed if _key(result) == _key(condition)), 0)


def _all_models(_reliability: Entry, document: Entry) -> JsonValue:
    """Return the names of all models: they were compared regardless of their architecture."""
    return [model.get("name") for model in _objects(document.get("models"))]


def _objects(found: object) -> list[Entry]:
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _key(entry: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple(entry.get(name) for name in ("model", "check", "explainer", "metric", "variant"))


UNKNOWN_PERFORMANCE: JsonValue = {"n": 0, "accuracy": None, "macro_f1": None}

SCHEMAS: Mapping[str, Schema] = {
    "1.1": Schema(
        additions=(
            Addition("warnings", []),
            Addition("policy", None),
            Addition("images.class_names", {}),
            Addition("averages", []),
            Addition("leads", []),
            Addition("artifacts[*].explainers", []),
            Addition("artifacts[*].flat", []),
            Addition("rankings", []),
            Addition("occlusion_correlations", []),
            *(Addition(f"statistics.{field}", 0) for field in ("inconclusive", "vacuous", "skipped")),
            Addition("verdict_reason", None),
            Addition("baseline", None),
            Addition("baseline_model", None),
            Addition("conditions[*].change", None),
            Addition("reliability[*].scope", "all_models"),
            Addition("reliability[*].architecture", None),
            Addition("reliability[*].models", _all_models),
            Addition("conditions[*].min_images", 1),
            Addition("conditions[*].severity", _severity),
            Addition("conditions[*].n", _images_behind),
            *(
                Addition(f"{part}.{field}", None)
                for part in ("results[*]", "controls[*]")
                for field in ("ci_reason", "ranked_by", "floor", "box", "pooled")
            ),
            *(Addition(f"{part}[*].ci_reason", None) for part in ("slices", "comparisons")),
            *(Addition(f"intervals[*].{field}", None) for field in ("own_interval", "set_by")),
            Addition("deviation.stated[*].variant", None),
            *(
                Addition(f"{model}.{field}", value)
                for model in ("model", "models[*]")
                for field, value in (("architecture", None), ("layers", {}), ("performance", UNKNOWN_PERFORMANCE))
            ),
            *(
                Addition(f"{model}.{field}", None)
                for model in ("model", "models[*]")
                for field in (
                    "signature",
                    "capabilities.conversion_failure",
                    *(f"reference[{kind}].weights.entry" for kind in ("factory", "timm", "torchvision")),
                    *(f"reference[{kind}].weights.signature" for kind in ("factory", "timm", "torchvision")),
                    *(f"reference[{kind}].signature" for kind in ("mar", "onnx", "torchscript", "torch_export")),
                    "reference[mar].entry",
                    "reference[mlflow].entry",
                )
            ),
            *(
                Addition(f"{model}.{field}", [])
                for model in ("model", "models[*]")
                for field in (
                    *(f"reference[{kind}].weights.parts" for kind in ("factory", "timm", "torchvision")),
                    "reference[onnx].parts",
                )
            ),
            *(Addition(f"{model}.reference[onnx].layout", "NCHW") for model in ("model", "models[*]")),
            *(
                Addition(f"plan.checks[{kind}].rank_by", "signed")
                for kind in ("deletion", "edda", "pixel_flipping", "insertion_deletion", "road")
            ),
            *(Addition(f"plan.checks[{kind}].noise", "fresh") for kind in ("sweep", "ssim_sweep", "sensitivity")),
            *(
                Addition(f"{model}.{path}", value)
                for model in ("model", "models[*]")
                for path, value in (
                    ("capabilities.layers", _offers_layers),
                    ("capabilities.weights", _offers_layers),
                    ("capabilities.limitation", None),
                    *((f"reference[{kind}].outputs", "logits") for kind in _WITH_OUTPUTS),
                    ("reference[mar].outputs", None),
                    *((f"reference[{kind}].select", None) for kind in _WITH_SELECT),
                    ("reference[torchvision].transform_input", None),
                    *((f"reference[{kind}].architecture[torchvision].transform_input", None) for kind in _PACKAGED),
                )
            ),
            *(
                Addition(f"{model}.{place}.{field}", value)
                for model in ("model", "models[*]")
                for place in ("preprocessing", *(f"reference[{kind}].preprocessing" for kind in _WITH_PREPROCESSING))
                for field, value in _SQUARE_CROP.items()
            ),
            Addition("images.items[*].note", None),
            Addition("plan.checks[localization].mask_threshold", "otsu"),
            Addition("plan.checks[localization].tolerance_px", 15),
            Addition("plan.checks[*].explainers", None),
            Addition("plan.checks[edda].color", "black"),
            Addition("plan.checks[edda].thresholds", []),
            Addition("plan.checks[edda].min_probability", 1e-8),
            *(
                Addition(f"plan.explainers{owner}.std_unit", "range")
                for owner in (
                    "[smoothgrad]",
                    "[noise_tunnel]",
                    "[gradient_shap]",
                    "[noise_tunnel].method[gradient_shap]",
                )
            ),
            Addition("plan.explainers[iba].statistics", "channel"),
            Addition("plan.explainers[precomputed].map_kind", "region"),
        ),
        moves=(
            Move("plan.checks[localization].quantiles", None),
            Move("plan.checks[localization].weighted", None),
            Move("plan.checks[sweep].families", "augmentations"),
            Move("plan.checks[ssim_sweep].changes[*].family", "augmentation"),
            Move("intervals[*].family", "augmentation"),
            Move("model.offer", "capabilities"),
            Move("models[*].offer", "capabilities"),
        ),
        renamed_metrics={("localization", "wsol_iou"): "wsol_iou_largest_region"},
        definitions=(
            "Checks that order pixels or cells took them by signed relevance, for every explainer.",
            "Explainers that draw noise drew different noise for each changed copy of an image.",
            "Conditions were judged by the mean over images, even if there were only a few.",
            "Intervals counted copies of an image as separate images, and were not limited to the range of a metric.",
            "Differences below a share of the largest value of a map were ties; top_k_score ordered ties at random.",
            "Grad-CAM read the last convolution that ran.",
            "wsol_iou used the largest connected region; it is now called wsol_iou_largest_region.",
            "In an audit of several models, each model had its own automatic interval.",
            "effective_heat_ratio took its thresholds from the quantiles of all pixels of the map.",
            "min_probability of localization excluded images below it; an image at exactly that probability was used.",
            "There were no warnings, no averages over explainers and no tests between models.",
        ),
    ),
}
"""Schema version -> how its documents are read. Version 1.0 is missing: its documents lack too much."""


def read_report(document: bytes) -> AuditReport:
    """Read the report in a JSON document of this schema version or of one in `SCHEMAS`.

    Args:
        document: The report as stored.

    Returns:
        The report. If the document has an earlier version, `upgraded_from` names it and lists its definitions.

    Raises:
        ValueError: The document is not JSON, has an unknown schema version, or is invalid.
    """
    content = json.loads(document)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version == SCHEMA_VERSION:
        return AuditReport.model_validate_json(document)
    schema = SCHEMAS.get(version) if isinstance(version, str) else None
    if schema is None:
        known = ", ".join((*SCHEMAS, SCHEMA_VERSION))
        msg = f"the document has schema version {version!r}; versions that can be read: {known}"
        raise ValueError(msg)
    upgrade(content, str(version), schema)
    return AuditReport.model_validate_json(json.dumps(content))


def upgrade(content: dict[str, Any], version: str, schema: Schema) -> None:
    """Convert a document of an earlier schema to the current one, in place.

    Args:
        content: The document.
        version: Its schema version.
        schema: How such documents are read.
    """
    for move in schema.moves:
        *parents, field = move.path.split(".")
        for owner in _entries(content, parents):
            if field in owner:
                value = owner.pop(field)
                if move.to is not None:
                    owner[move.to] = move.convert(value)
    for addition in schema.additions:
        *parents, field = addition.path.split(".")
        for owner in _entries(content, parents):
            if field not in owner:
                owner[field] = addition.value(owner, content) if callable(addition.value) else addition.value
    kinds = {str(check.get("name") or check.get("kind")): str(check.get("kind")) for check in _checks(content)}
    for entry in _of_metrics(content):
        kind = kinds.get(entry["check"], "")
        entry["metric"] = schema.renamed_metrics.get((kind, entry["metric"]), entry["metric"])
    content["schema_version"] = SCHEMA_VERSION
    content["upgraded_from"] = {"schema_version": version, "definitions": list(schema.definitions)}


def _entries(content: dict[str, Any], parents: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the objects at a path; those that are missing or null are skipped."""
    if not parents:
        yield content
        return
    step = re.fullmatch(r"(\w+)(?:\[([\w*]+)\])?", parents[0])
    if step is None:
        msg = f"step {parents[0]!r} of a path must be a name, with a kind or * in brackets if it is a list"
        raise ValueError(msg)
    name, kind = step.groups()
    found = content.get(name)
    for entry in found if isinstance(found, list) else [found]:
        if isinstance(entry, dict) and kind in {None, "*", entry.get("kind")}:
            yield from _entries(entry, parents[1:])


def _checks(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from _entries(content, ["plan", "checks"])


def _of_metrics(content: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - any part of a JSON document
    """Yield every object that names a metric of a check, anywhere in the document."""
    if isinstance(content, dict):
        if isinstance(content.get("check"), str) and isinstance(content.get("metric"), str):
            yield content
        parts = list(content.values())
    else:
        parts = content if isinstance(content, list) else []
    for part in parts:
        if isinstance(part, (dict, list)):
            yield from _of_metrics(part)
