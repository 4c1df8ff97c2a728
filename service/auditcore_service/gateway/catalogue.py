"""Everything that a plan may name, from the contracts."""

from __future__ import annotations

import inspect
from typing import Any, get_args

from auditcore.contracts.augmentations import Augmentation, AugmentationContract, Composition
from auditcore.contracts.checks import Check, CheckContract
from auditcore.contracts.contract import Contract
from auditcore.contracts.explainers import EXPLAINER_CONTRACTS, ExplainerContract
from auditcore.contracts.metrics import METRICS
from auditcore.contracts.presets import PRESETS, Preset, setting_value
from auditcore_service.gateway.schemas import Catalogue, CatalogueEntry, PresetEntry, PresetSetting


def build_catalogue() -> Catalogue:
    """Explainers, checks and augmentations with JSON schemas, presets in full, metrics with their meaning."""
    return Catalogue(
        explainers=tuple(_explainer(contract) for contract in EXPLAINER_CONTRACTS),
        checks=tuple(_check(contract) for contract in members(Check)),
        augmentations=tuple(_augmentation(contract) for contract in members(Augmentation)),
        presets={name: _preset(preset) for name, preset in PRESETS.items()},
        metrics=METRICS,
    )


def members(union: Any) -> tuple[type[Contract], ...]:  # noqa: ANN401 - a type expression has no type
    """Classes of an annotated union, in order."""
    return get_args(get_args(union)[0])


def _explainer(contract: type[ExplainerContract]) -> CatalogueEntry:
    return _entry(
        contract,
        paper=contract.paper,
        needs=tuple(sorted(contract.needs)),
        map_kind=contract.default_map_kind,
    )


def _check(contract: type[Contract]) -> CatalogueEntry:
    if not issubclass(contract, CheckContract):
        raise TypeError(contract)
    return _entry(contract, paper=contract.paper)


def _augmentation(contract: type[Contract]) -> CatalogueEntry:
    if not issubclass(contract, AugmentationContract):
        raise TypeError(contract)
    return _entry(
        contract,
        unit=contract.unit,
        # a composition moves pixels if one of its parts does
        equivariant=None if issubclass(contract, Composition) else contract.moves,
        identity=contract.identity,
        bound=contract.bound,
        domain=contract.domain,
    )


def _preset(preset: Preset) -> PresetEntry:
    plan = preset.build(0)
    return PresetEntry(
        summary=preset.summary,
        paper=preset.paper,
        settings=tuple(
            PresetSetting(
                path=setting.path,
                value=setting_value(plan, setting.path),
                source=setting.source,
                note=setting.note,
            )
            for setting in preset.settings
        ),
        plan=plan,
    )


def _entry(contract: type[Contract], **fields: Any) -> CatalogueEntry:  # noqa: ANN401 - checked by pydantic
    return CatalogueEntry(
        kind=contract.model_fields["kind"].default,
        meaning=inspect.cleandoc(contract.__doc__ or "").splitlines()[0],
        schema=contract.model_json_schema(),
        **fields,
    )
