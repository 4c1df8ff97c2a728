"""Writes the reference pages from the code, so that they cannot say anything else.

Sphinx calls `write_pages` before it reads the sources (see `conf.py`). The pages are not committed. Explainers, checks,
metrics, augmentations and presets come from the catalogue that `GET /v1/catalogue` answers; routes come from
`openapi/openapi.json`; settings, commands, errors and the library's names from their modules.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from types import ModuleType
from typing import Any

import typer
from pydantic import BaseModel, SecretStr, TypeAdapter

import auditcore
from auditcore import errors
from auditcore.client import Client, answers
from auditcore.client import errors as client_errors
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy import Condition
from auditcore.contracts.policy_document import PolicyDocument
from auditcore.contracts.remedies.plan import RemedyPlan, RemedyRequest
from auditcore.contracts.remedies.report import RemedyReport
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.retraining.f_fidelity import FFidelityPlan, FFidelityReport, FFidelityRequest
from auditcore.contracts.retraining.idsds import IdsdsPlan, IdsdsReport, IdsdsRequest
from auditcore.contracts.retraining.roar import RoarPlan, RoarReport, RoarRequest
from auditcore.contracts.shipped_policies import shipped_policies
from auditcore.contracts.studies.plan import StudyPlan, StudyRequest
from auditcore.contracts.studies.report import StudyReport
from auditcore.contracts.synthetic import (
    OBJECT_CLASSES,
    SCENE_CLASSES,
    Digits,
    ObjectsOnScenes,
    Shortcut,
    ShortcutReliance,
)
from auditcore.contracts.training.methods import TRAINING_METHODS
from auditcore.contracts.training.plan import TrainingPlan
from auditcore.contracts.training.report import TrainingReport
from auditcore.contracts.training.request import TrainingRequest
from auditcore_service.cli.commands import app
from auditcore_service.gateway.catalogue import build_catalogue
from auditcore_service.gateway.problems import STATUS
from auditcore_service.settings import Settings
from auditcore_service.use_cases import refusals

ROOT = Path(__file__).parents[1]

Json = Mapping[str, Any]


def write_pages(folder: Path) -> None:
    """Write every page whose text has changed, and remove pages that are no longer written."""
    folder.mkdir(exist_ok=True)
    pages = reference_pages()
    for old in folder.glob("*.md"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def reference_pages() -> dict[str, str]:
    """File name -> Markdown of every reference page."""
    catalogue = json.loads(build_catalogue().model_dump_json(by_alias=True))
    pages = {
        "explainers.md": _explainers(catalogue["explainers"]),
        "checks.md": _checks(catalogue["checks"], catalogue["metrics"]),
        "metrics.md": _metrics(catalogue["metrics"]),
        "augmentations.md": _augmentations(catalogue["augmentations"]),
        "presets.md": _presets(catalogue["presets"]),
        "policies.md": _policies(),
        "models.md": _models(),
        "synthetic.md": _synthetic(),
        "training-methods.md": _training_methods(),
        "trainings.md": _trainings(),
        "studies.md": _studies(),
        "request.md": _records(),
        "retraining.md": _retraining(),
        "settings.md": _settings(),
        "command-line.md": _commands(),
        "errors.md": _errors(),
        "routes.md": _routes(json.loads((ROOT / "openapi" / "openapi.json").read_text(encoding="utf-8"))),
        "library.md": _library(),
        "client.md": _client(),
    }
    toctree = "\n".join(name.removesuffix(".md") for name in pages)
    pages["index.md"] = (
        "# Reference\n\nThese pages are generated from the code at every build.\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{toctree}\n```\n"
    )
    return pages


def _explainers(entries: Sequence[Json]) -> str:
    rows = [
        (
            f"[`{entry['kind']}`](#{_anchor(entry['kind'])})",
            entry["meaning"],
            ", ".join(entry["needs"]) or "-",
            entry["map_kind"] or "by its parameters",
            entry["paper"],
        )
        for entry in entries
    ]
    return _page(
        "Explainers",
        "An explainer is one entry of `plan.explainers`. What it needs of a model decides whether it can run; see "
        "`auditcore inspect`. The kind of its maps decides how checks with `rank_by: auto` order pixels.",
        _table(("Kind", "What it is", "Needs", "Kind of map", "Source"), rows),
        *(
            _section(entry["kind"], _documentation(entry["schema"]), _fields(entry["schema"], skip=("kind",)))
            for entry in entries
        ),
    )


def _checks(entries: Sequence[Json], metrics: Json) -> str:
    rows = [(f"[`{e['kind']}`](#{_anchor(e['kind'])})", e["meaning"], e["paper"]) for e in entries]
    return _page(
        "Checks",
        "A check is one entry of `plan.checks`. [Definitions](../explanation/definitions.md) has the formulas.",
        _table(("Kind", "What it asks", "Source"), rows),
        *(
            _section(
                entry["kind"],
                _documentation(entry["schema"]),
                _fields(entry["schema"], skip=("kind",)),
                "Metrics:",
                _metric_table(metrics[entry["kind"]]),
            )
            for entry in entries
        ),
    )


def _metrics(metrics: Json) -> str:
    return _page(
        "Metrics",
        "Every number that a report can hold, by check. Metrics marked as a control say how far the other numbers can "
        "be trusted; the report lists them under `controls`. Those of `explainer` belong to no check.",
        *(_section(kind, _metric_table(entries)) for kind, entries in metrics.items()),
    )


def _metric_table(metrics: Json) -> str:
    better = {True: "higher", False: "lower", None: "-"}
    rows = [
        (
            f"`{name}`",
            metric["meaning"],
            metric["unit"],
            _range(metric["lowest"], metric["highest"]),
            better[metric["higher_is_better"]],
            "yes" if metric["control"] else "",
        )
        for name, metric in metrics.items()
    ]
    return _table(("Metric", "Meaning", "Unit", "Range", "Better", "Control"), rows)


def _range(lowest: float | None, highest: float | None) -> str:
    if lowest is None and highest is None:
        return "-"
    return f"{'-∞' if lowest is None else f'{lowest:g}'} to {'∞' if highest is None else f'{highest:g}'}"


def _augmentations(entries: Sequence[Json]) -> str:
    moves = {True: "yes", False: "no", None: "by its parts"}
    rows = [
        (
            f"`{entry['kind']}`",
            entry["meaning"],
            entry["unit"],
            f"{entry['identity']:g}",
            _around(entry["identity"], entry["bound"], *entry["domain"]),
            f"{entry['domain'][0]:g} to {entry['domain'][1]:g}",
            moves[entry["equivariant"]],
        )
        for entry in entries
    ]
    header = ("Kind", "What it changes", "Unit", "Identity", "Largest automatic interval", "Allowed", "Maps move along")
    return _page(
        "Augmentations",
        "An augmentation is one entry of `augmentations` in the check `sweep`, or of `changes` in `ssim_sweep`.",
        _table(header, rows),
        "The filters of `gmic` need the extra `auditcore[gmic]`. Their commands are constants; no text of a request "
        "reaches G'MIC.",
        *(_section(entry["kind"], _fields(entry["schema"], skip=("kind",))) for entry in entries),
    )


def _around(identity: float, bound: float, least: float, most: float) -> str:
    return f"{max(least, identity - bound):.3g} to {min(most, identity + bound):.3g}"


def _presets(presets: Json) -> str:
    return _page(
        "Presets",
        'A preset is a named plan: `{"preset": "quick"}`. The report and `GET /v1/catalogue` spell it out. For each '
        "setting that matters, the table says whether it is from the text of the paper (`paper`), from its authors' "
        "published code (`code`), or our own choice (`ours`). What is not listed has the default of its contract.",
        *(
            _section(
                name,
                preset["summary"] + (f" After {preset['paper']}." if preset["paper"] else ""),
                _table(
                    ("Setting", "Value", "From", "What it is, and where we differ"),
                    [
                        (f"`{row['path']}`", _brief(row["value"]), row["source"], row["note"])
                        for row in preset["settings"]
                    ],
                ),
            )
            for name, preset in presets.items()
        ),
    )


def _policies() -> str:
    return _page(
        "Policies",
        "These policies come with auditcore. A request names one with its version: "
        '`"policy": "quick-look@1.0.0"`. `auditcore policy show` prints one to start from, and '
        "[choose thresholds](../how-to/choose-thresholds.md) says how to replace its numbers.",
        *(
            _section(
                document.label,
                document.description,
                f"Digest: `{document.digest}`",
                _table(
                    ("Condition", "On", "Wanted", "Severity", "Where the number comes from"),
                    [_condition_row(condition) for condition in document.conditions],
                ),
            )
            for document in shipped_policies()
        ),
    )


def _condition_row(condition: Condition) -> tuple[str, ...]:
    parts = (condition.check, condition.explainer, condition.metric, condition.variant)
    return (
        f"`{condition.id}`",
        f"`{' '.join(part for part in parts if part is not None)}`",
        f"`{condition.criterion}` {condition.threshold:g}, {condition.min_images} images",
        f"`{condition.severity}`",
        condition.rationale or "",
    )


def _models() -> str:
    schema = TypeAdapter(ModelReference).json_schema()
    kinds = schema["discriminator"]["mapping"]
    return _page(
        "Model references",
        "The `model` of a request says where a model lives; `kind` names the source. "
        "[Models and images](../how-to/models-and-images.md) says what the operator has to allow for each.",
        *(
            _section(
                kind,
                _documentation(_resolve(reference, schema)),
                _fields(_resolve(reference, schema), schema, skip=("kind",)),
            )
            for kind, reference in kinds.items()
        ),
        "## Parts of model references",
        *_parts(schema, skip={_name(reference) for reference in kinds.values()}),
    )


def _synthetic() -> str:
    records = (ObjectsOnScenes, Digits, Shortcut, ShortcutReliance)
    schemas = [(record.__name__, record.model_json_schema(mode="serialization")) for record in records]
    return _page(
        "Synthetic data",
        "`auditcore.generate_images` makes images from these parameters; `auditcore synthetic` writes them as folders. "
        "[The guide](../how-to/make-images-with-known-truth.md) says what they are for.",
        *(_section(name, _documentation(schema), _fields(schema)) for name, schema in schemas),
        _section(
            "Classes",
            "A dataset of n classes has the first n.",
            _table(
                ("Number", "Object: its outline", "Scene: its texture"),
                [
                    (str(number), f"`{shape}`", f"`{texture}`")
                    for number, (shape, texture) in enumerate(zip(OBJECT_CLASSES, SCENE_CLASSES, strict=True))
                ],
            ),
        ),
    )


def _training_methods() -> str:
    schemas = [(contract, contract.model_json_schema()) for contract in TRAINING_METHODS]
    rows = [
        (
            f"[`{schema['properties']['kind']['default']}`](#{_anchor(schema['properties']['kind']['default'])})",
            _first_line(contract),
            "yes" if contract.mixes_images else "no",
            "yes" if contract.mixes_labels else "no",
            ", ".join(sorted(contract.scores)),
            contract.paper,
        )
        for contract, schema in schemas
    ]
    header = ("Kind", "What a batch is made into", "Mixes images", "Mixes labels", "Models", "Source")
    return _page(
        "Training methods",
        "A training method is `method` of a training plan. It is a subject of study, not a cure: mixed labels lower "
        "inter-model deletion in Won et al. 2025. Label smoothing is a field of the plan, `label_smoothing`, and works "
        "with every method.",
        _table(header, rows),
        *(
            _section(schema["properties"]["kind"]["default"], _documentation(schema), _fields(schema, skip=("kind",)))
            for _, schema in schemas
        ),
    )


def _records() -> str:
    records: tuple[type[BaseModel], ...] = (AuditRequest, AuditPlan, Condition, PolicyDocument, AuditReport)
    schemas = [(record.__name__, record.model_json_schema(mode="serialization")) for record in records]
    return _page(
        "Requests and reports",
        "The fields of a request, its plan and its policy, and of a report. `openapi/report.schema.json` is the JSON "
        "schema of the whole report.",
        *(_section(name, _documentation(schema), _fields(schema)) for name, schema in schemas),
        "## Parts of a report",
        *_parts(schemas[-1][1], skip=_method_records()),
    )


def _retraining() -> str:
    return _records_and_parts(
        "Measures that retrain",
        "`auditcore.roar`, `auditcore.f_fidelity` and `auditcore.idsds` train models to measure explanations. "
        "[Definitions](../explanation/definitions.md#measures-that-retrain) has the formulas. Each takes a request "
        "with a plan and returns a report. With `budget_seconds`, what would not fit is refused before anything is "
        "trained. With `out`, a folder, everything that is done is kept, and the same call goes on with it: scores or "
        "values, weights in `weights/`, and `report.json`.",
        (
            *(RoarPlan, FFidelityPlan, IdsdsPlan),
            *(RoarRequest, FFidelityRequest, IdsdsRequest),
            *(RoarReport, FFidelityReport, IdsdsReport),
        ),
        (
            "RoarResult",
            "RoarPoint",
            "MeasuredExplainer",
            "MeasuredImage",
            "ScorePoint",
            "Statistic",
            "RetrainingCost",
        ),
    )


def _trainings() -> str:
    return _records_and_parts(
        "Trainings",
        "The body of `POST /v1/trainings`, which `auditcore train` and `auditcore.train` take too, and the report. "
        "[Training methods](training-methods.md) has the values of `plan.method`.",
        (TrainingRequest, TrainingPlan, TrainingReport),
        (
            *(
                "HeldOut",
                "Sgd",
                "Adam",
                "AdamW",
                "ConstantRate",
                "CosineAnnealing",
                "StepDecay",
                "BasicAugmentation",
                "EpochAudit",
            ),
            *("Epoch", "EpochMeasurement", "TrainingData", "TrainedModel", "LeftOutImage"),
        ),
    )


def _studies() -> str:
    return _records_and_parts(
        "Studies and remedies",
        "Bodies of `POST /v1/experiments`, which the commands `study` and `remediate` and the functions "
        "`auditcore.study` and `auditcore.remedy` take too, and their reports. Plans of trainings are those of "
        "[trainings](trainings.md); [measures that retrain](retraining.md) are experiments too.",
        (StudyRequest, StudyPlan, StudyReport, RemedyRequest, RemedyPlan, RemedyReport),
        (
            *("StudyMethod", "StudiedModel", "StudyRow", "SeedDifference", "ModelCorrelation"),
            *("RemediedCondition", "Candidate", "ConditionChange", "MetricChange"),
        ),
    )


def _records_and_parts(title: str, text: str, records: Sequence[type[BaseModel]], parts: Sequence[str]) -> str:
    """A page of records, and of the parts of them that no other page has.

    Raises:
        KeyError: No record has such a part.
    """
    schemas = [(record.__name__, record.model_json_schema(mode="serialization")) for record in records]
    known = {name: (schema["$defs"][name], schema) for _, schema in schemas for name in schema.get("$defs", {})}
    return _page(
        title,
        text,
        *(_section(name, _documentation(schema), _fields(schema)) for name, schema in schemas),
        *(_section(name, _documentation(known[name][0]), _fields(*known[name])) for name in parts),
    )


def _method_records() -> set[str]:
    """Names of the records that have pages of their own: explainers, checks, augmentations, models."""
    catalogue = build_catalogue()
    methods = (*catalogue.explainers, *catalogue.checks, *catalogue.augmentations)
    models = TypeAdapter(ModelReference).json_schema()
    named = {name for method in methods for name in method.schema_.get("$defs", {})}
    return named | {method.schema_["title"] for method in methods} | set(models["$defs"])


def _settings() -> str:
    rows = [
        (f"`AUDIT_{name.upper()}`", _setting_default(field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    return _page(
        "Settings",
        "The service reads its settings from environment variables. Lists are JSON: "
        "`AUDIT_FILE_ROOTS='[\"/srv/photos\"]'`. Sizes are checked before anything is decoded.",
        _table(("Variable", "Default", "What it does"), rows),
    )


def _setting_default(value: object) -> str:
    if value is None or isinstance(value, SecretStr):
        return "-"
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value) or "none"
    return f"`{value}`"


def _commands() -> str:
    group: Any = typer.main.get_command(app)
    context = group.make_context("auditcore", [], resilient_parsing=True)
    return _page(
        "Command line",
        "Every command answers `--help`.",
        *_command_sections(group, context),
    )


def _command_sections(group: Any, context: Any) -> Iterator[str]:  # noqa: ANN401 - typer keeps its classes private
    """A section for each command of a group, and for those of its groups."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _command_sections(
                command, command.make_context(name, [], parent=context, resilient_parsing=True)
            )
        elif not command.hidden:
            yield _section(f"{context.command_path} {name}", *_command(command, name, context))


def _command(command: Any, name: str, parent: Any) -> Iterator[str]:  # noqa: ANN401 - typer keeps its classes private
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    yield inspect.cleandoc(command.help or "").split("\f", 1)[0]
    yield f"```console\n$ {context.command_path} {' '.join(command.collect_usage_pieces(context))}\n```"
    rows = []
    for parameter in command.get_params(context):
        names = " ".join(f"`{spelling}`" for spelling in (*parameter.opts, *parameter.secondary_opts))
        if parameter.param_type_name == "argument":
            names = f"`{parameter.name.upper()}`"
        default = parameter.get_default(context, call=False)
        shown = "" if default in (None, (), False) or callable(default) else f"`{getattr(default, 'value', default)}`"
        rows.append((names, getattr(parameter, "help", None) or "", shown))
    if rows:
        yield _table(("Option", "What it does", "Default"), rows)


def _errors() -> str:
    library = [kind for kind in _subclasses(errors.AuditcoreError) if kind is not errors.AuditcoreError]
    service = [kind for kind in _subclasses(refusals.Refusal) if kind is not refusals.Refusal]
    header = ("Code", "Status", "Class", "Meaning")
    return _page(
        "Errors",
        "`code` is stable: it appears in `application/problem+json` answers (RFC 9457), in failed audits and in "
        "exceptions of the library.",
        _section("Errors of the library", _table(header, _error_rows(library))),
        _section("Refusals of the service", _table(header, _error_rows(service))),
    )


def _subclasses(base: type[Any]) -> Iterator[type[Any]]:
    yield base
    for kind in base.__subclasses__():
        yield from _subclasses(kind)


def _error_rows(kinds: Iterable[type[Any]]) -> list[tuple[str, ...]]:
    rows = []
    for kind in kinds:
        status = HTTPStatus(next(STATUS[one] for one in kind.__mro__ if one in STATUS))
        rows.append((f"`{kind.code}`", f"{status.value} {status.phrase}", f"`{kind.__name__}`", _first_line(kind)))
    return rows


def _routes(document: Json) -> str:
    sections = []
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            answers = [
                (status, answer["description"], ", ".join(f"`{kind}`" for kind in answer.get("content", {})))
                for status, answer in route["responses"].items()
            ]
            parameters = [
                (f"`{one['name']}`", one["in"], _type(one["schema"], document), one.get("description", ""))
                for one in route.get("parameters", ())
            ]
            sections.append(
                _section(
                    f"{method.upper()} {path}",
                    f"{route['summary']}.",
                    _plain(route.get("description", "")),
                    _table(("Parameter", "In", "Type", "Meaning"), parameters) if parameters else "",
                    _table(("Status", "Answer", "Media types"), answers),
                )
            )
    return _page(
        "Routes",
        "`openapi/openapi.json` is the whole document in OpenAPI 3.1. A running service shows it at `/docs`.",
        *sections,
    )


def _library() -> str:
    functions = [name for name in auditcore.__all__ if inspect.isfunction(getattr(auditcore, name))]
    rows = [(f"`{name}`", _first_line(getattr(auditcore, name))) for name in auditcore.__all__ if name not in functions]
    directives = "\n\n".join(f"```{{eval-rst}}\n.. autofunction:: auditcore.{name}\n```" for name in functions)
    return _page(
        "Library",
        "Everything that `auditcore` exports. `import auditcore` needs no torch; what computes is imported on first "
        "use and needs the extra `auditcore[engine]`.",
        _section("Functions", directives),
        _section("Classes", _table(("Name", "What it is"), rows)),
    )


def _client() -> str:
    methods = [name for name in vars(Client) if not name.startswith("_")]
    directives = "\n\n".join(f".. autofunction:: auditcore.client.Client.{name}" for name in methods if name != "url")
    rows = [(f"`{name}`", _first_line(getattr(client_errors, name))) for name in _drawn(client_errors)]
    records = (one for one in vars(answers).values() if inspect.isclass(one) and issubclass(one, answers.Answer))
    answered = [(f"`{one.__name__}`", _first_line(one)) for one in records]
    return _page(
        "Python client",
        "`from auditcore.client import Client, AsyncClient` asks a service, and needs the extra `auditcore[client]`. "
        "[Use the Python client](../how-to/use-the-python-client.md) shows how.",
        _section(
            "Client",
            "```{eval-rst}\n.. autoclass:: auditcore.client.Client\n\n"
            ".. automethod:: auditcore.client.Client.__init__\n```",
            "`AsyncClient` has the same arguments and methods. They are awaited, and what iterates here is iterated "
            "with `async for`.",
        ),
        _section("Methods", f"```{{eval-rst}}\n{directives}\n```"),
        _section("Without a service", "```{eval-rst}\n.. autofunction:: auditcore.client.verify\n```"),
        _section("Repeated requests", "```{eval-rst}\n.. autoclass:: auditcore.client.Retries\n```"),
        _section("Data frames", "```{eval-rst}\n.. automethod:: auditcore.contracts.report.AuditReport.to_frame\n```"),
        _section(
            "Errors",
            f"```text\n{inspect.cleandoc(client_errors.__doc__ or '').split(chr(10), 2)[2].strip(chr(10))}\n```",
            _table(("Error", "What happened"), rows),
        ),
        _section("Answers", _table(("Record", "What it is"), answered)),
    )


def _drawn(module: ModuleType) -> list[str]:
    """Names of the errors in the tree of a module."""
    return re.findall(r"[|`]-- (\w+)", module.__doc__ or "")


# -- JSON schemas as tables


def _parts(schema: Json, *, skip: set[str]) -> Iterator[str]:
    for name, part in schema.get("$defs", {}).items():
        if name not in skip and "properties" in part:
            yield f"### {name}\n\n" + _join(_documentation(part), _fields(part, schema))


def _fields(schema: Json, root: Json | None = None, *, skip: Sequence[str] = ()) -> str:
    rows = [
        (
            f"`{name}`",
            _type(field, root or schema),
            _default(name, field, schema),
            field.get("description", ""),
        )
        for name, field in schema.get("properties", {}).items()
        if name not in skip
    ]
    return _table(("Field", "Type", "Default", "Meaning"), rows) if rows else "It has no parameters."


def _default(name: str, field: Json, schema: Json) -> str:
    if "default" in field:
        return _brief(field["default"])
    return "required" if name in schema.get("required", ()) else "see text"


_MOST = 60
"""Characters of a default that a table shows; longer ones are spelled out in the schema."""


def _brief(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    if isinstance(value, list) and all(isinstance(item, (str, int, float)) for item in value) and value:
        return ", ".join(f"`{item}`" for item in value)
    return f"`{value if isinstance(value, str) else text}`" if len(text) <= _MOST else "see the schema"


def _type(field: Json, root: Json) -> str:
    if "$ref" in field:
        return _named(_resolve(field["$ref"], root), field["$ref"])
    for union in ("anyOf", "oneOf"):
        if union in field:
            return " or ".join(dict.fromkeys(_type(one, root) for one in field[union]))
    if "enum" in field or "const" in field:
        return " or ".join(f"`{json.dumps(value)}`" for value in field.get("enum", [field.get("const")]))
    kind = field.get("type", "any")
    if kind == "array":
        items = field.get("items") or {"anyOf": field["prefixItems"]} if "prefixItems" in field else field.get("items")
        return f"list of {_type(items, root)}" if items else "list"
    if kind == "object":
        values = field.get("additionalProperties")
        return f"object of {_type(values, root)}" if isinstance(values, dict) else "object"
    return f"{kind}{_bounds(field)}"


def _bounds(field: Json) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {field[name]:g}" for name, sign in signs.items() if name in field]
    return f" ({', '.join(found)})" if found else ""


def _named(record: Json, reference: str) -> str:
    if "enum" in record:
        return _type(record, record)
    kind = record.get("properties", {}).get("kind", {}).get("const")
    return f"`{kind}`" if kind else _name(reference)


def _name(reference: str) -> str:
    return reference.rsplit("/", 1)[-1]


def _resolve(reference: str, root: Json) -> Json:
    found: Any = root
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    resolved: Json = found
    return resolved


def _documentation(schema: Json) -> str:
    """Description of a record as Markdown, without its list of attributes, which the table has."""
    return _plain(re.split(r"\n\s*Attributes:\n", schema.get("description", ""), maxsplit=1)[0])


def _plain(text: str) -> str:
    return _escaped(inspect.cleandoc(text))


def _first_line(value: object) -> str:
    return (inspect.getdoc(value) or "").split("\n\n", 1)[0].replace("\n", " ")


# -- Markdown


def _page(title: str, *parts: str) -> str:
    return _join(f"# {title}", *parts) + "\n"


def _section(title: str, *parts: str) -> str:
    return _join(f"## {title}", *parts)


def _join(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)


def _anchor(title: str) -> str:
    return title.lower()


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return _escaped(" ".join(text.split())).replace("|", r"\|") or " "


def _escaped(text: str) -> str:
    """Text whose `<` outside code begins no HTML."""
    parts = text.split("`")
    return "`".join(part if index % 2 else part.replace("<", "&lt;") for index, part in enumerate(parts))
