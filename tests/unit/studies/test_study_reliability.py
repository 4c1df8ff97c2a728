"""The experiment of Erdem 2021 as one study: architectures x shares of the images, and the reliability of measures."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

import digits
import small_trainings
from auditcore import (
    AccessRules,
    Adam,
    AuditPlan,
    AuditReport,
    DeletionCheck,
    GradCam,
    Gradient,
    Random,
    Saliency,
    SensitivityCheck,
    StudyMethod,
    StudyPlan,
    StudyReport,
    StudyRequest,
    TrainingPlan,
    study,
    study_reliability,
)
from auditcore.contracts.models import FactoryModel, Weights
from auditcore.contracts.report import MeasureReliability
from auditcore.report.reading import read_report
from auditcore.report.reliability import measure_reliability

# twelve models are trained; what is computed of them has quick tests in tests/unit/report/test_reliability.py
pytestmark = pytest.mark.long

CONVNET = "auditcore.models.small_convnet:small_convnet"
SHARES = (1.0, 0.5)


def architecture(target: str, **kwargs: object) -> FactoryModel:
    return FactoryModel.model_validate(
        {
            "target": target,
            "kwargs": kwargs,
            "weights": Weights(uri="random:0"),
            "preprocessing": digits.PREPROCESSING,
        }
    )


ARCHITECTURES = {
    "skip": architecture("digits:build"),
    "shallow": architecture("digits:build_shallow"),
    "convnet": architecture(CONVNET, classes=10, width=4),
}
ACCESS = AccessRules(factories=("digits:build", "digits:build_shallow", CONVNET))


def request(*seeds: int) -> StudyRequest:
    trained = TrainingPlan(epochs=2, batch_size=16, optimizer=Adam(learning_rate=0.01))
    methods = tuple(
        StudyMethod(name=f"{name}-{share:g}", model=model, plan=trained.model_copy(update={"share": share}))
        for name, model in ARCHITECTURES.items()
        for share in SHARES
    )
    audit = AuditPlan(
        explainers=(Gradient(), Saliency(), GradCam(), Random()),
        checks=(DeletionCheck(grid=3, repeats=2), SensitivityCheck(draws=2)),
    )
    return StudyRequest(
        model=ARCHITECTURES["skip"],
        images=small_trainings.ANYWHERE,
        test=small_trainings.ANYWHERE,
        plan=StudyPlan(methods=methods, seeds=seeds, audit=audit),
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyReport]:
    out = tmp_path_factory.mktemp("erdem")
    images = digits.encoded(66, labeled=True)
    return out, study(request(0, 1), out=out, images=images[:60], test=images[60:], access=ACCESS)


def audits(out: Path) -> dict[int, AuditReport]:
    return {seed: read_report((out / "audits" / f"{seed}.json").read_bytes()) for seed in (0, 1)}


def test_models_of_an_architecture_are_compared_with_each_other(done: tuple[Path, StudyReport]) -> None:
    _, report = done
    found = [one for one in study_reliability(report) if one.metric == "inter_model_deletion"]
    scopes = [(one.scope, sorted(one.models)) for one in found]
    assert scopes[0] == ("all_models", sorted(f"{one.method}-{one.seed}" for one in report.models))
    assert scopes[1:] == [
        ("architecture", [f"{name}-{share}-{seed}" for share in ("0.5", "1") for seed in (0, 1)])
        for name in ARCHITECTURES
    ]
    # four models of each architecture, from the least accurate to the most accurate
    accuracies = {f"{one.method}-{one.seed}": one.accuracy or 0.0 for one in report.models}
    for one in found:
        assert [accuracies[name] for name in one.models] == sorted(accuracies[name] for name in one.models)


def test_reliability_is_that_of_the_definition(done: tuple[Path, StudyReport]) -> None:
    """A measure is reliable if every pair of methods has the same order on all models of an architecture."""
    out, report = done
    found = {
        (one.check, one.metric, one.variant, one.architecture): one
        for one in study_reliability(report)
        if one.scope == "architecture"
    }
    means: dict[tuple[object, ...], dict[str, dict[str, float]]] = {}
    for seed, audit in audits(out).items():
        by_name = {model.name: model.architecture for model in audit.models}
        for row in audit.results:
            if row.explainer is None or row.mean is None or row.model is None:
                continue
            key = (row.check, row.metric, row.variant, by_name[row.model])
            means.setdefault(key, {}).setdefault(f"{row.model}-{seed}", {})[row.explainer] = row.mean
    assert means.keys() == found.keys()
    verdicts = set()
    for key, models in means.items():
        names = sorted(set.intersection(*(set(own) for own in models.values())))
        signs = {
            pair: {(own[pair[0]] > own[pair[1]]) - (own[pair[0]] < own[pair[1]]) for own in models.values()}
            for pair in combinations(names, 2)
        }
        ordered = any(sign != {0} for sign in signs.values())
        expected = all(len(sign) == 1 for sign in signs.values()) if ordered else None
        assert found[key].reliable == expected, key
        verdicts.add(expected)
    assert False in verdicts
    # random maps are not compared
    assert not any("random" in order for one in found.values() for order in one.orders.values())


def test_a_study_of_one_seed_says_what_its_audit_says(done: tuple[Path, StudyReport]) -> None:
    """All test images are audited, so accuracies and images are the same too."""
    out, report = done
    plan = report.request.plan.model_copy(update={"seeds": (0,)})
    alone = report.model_copy(
        update={
            "request": report.request.model_copy(update={"plan": plan}),
            "models": tuple(one for one in report.models if one.seed == 0),
            "rows": tuple(
                row.model_copy(update={"per_seed": row.per_seed[:1], "images": row.images[:1]}) for row in report.rows
            ),
        }
    )

    def renamed(one: MeasureReliability) -> MeasureReliability:
        orders = {name.removesuffix("-0"): order for name, order in one.orders.items()}
        models = tuple(name.removesuffix("-0") for name in one.models)
        return one.model_copy(update={"orders": orders, "models": models})

    audit = audits(out)[0]
    found = tuple(renamed(one) for one in study_reliability(alone))
    assert found == audit.reliability
    assert found == measure_reliability(audit.results, audit.models, ())
    assert any(one.n == 6 for one in found)
