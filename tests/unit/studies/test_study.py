"""A study from end to end: what it trains, that it is paired, resumed and compared."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

import digits
import small_trainings
from auditcore import (
    Adam,
    AuditPlan,
    DeletionCheck,
    GradCam,
    InputError,
    Mixup,
    Saliency,
    StudyMethod,
    StudyPlan,
    StudyReport,
    StudyRequest,
    TrainingPlan,
    study,
    train,
)
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.models import FactoryModel, Weights
from auditcore.contracts.training.report import TrainingReport
from auditcore.errors import AuditCancelled, InvalidRequest
from auditcore.report.reading import read_report
from auditcore.studies.tables import metric_table

MODEL = FactoryModel(target="digits:build", weights=Weights(uri="random:9"), preprocessing=digits.PREPROCESSING)
PLAN = TrainingPlan(epochs=2, batch_size=16, optimizer=Adam(learning_rate=0.01), seed=77)
AUDIT = AuditPlan(explainers=(GradCam(), Saliency()), checks=(DeletionCheck(grid=4),))
METHODS = (
    StudyMethod(name="baseline", plan=PLAN),
    StudyMethod(name="mixup", plan=PLAN.model_copy(update={"method": Mixup()})),
    StudyMethod(name="longer", plan=PLAN.model_copy(update={"epochs": 1}), continues="mixup"),
)
IMAGES = digits.encoded(60, labeled=True)


def request(**changes: object) -> StudyRequest:
    plan = StudyPlan.model_validate({"methods": METHODS, "seeds": (0, 3), "audit": AUDIT, "audit_images": 6} | changes)
    return StudyRequest(model=MODEL, images=small_trainings.ANYWHERE, test=small_trainings.ANYWHERE, plan=plan)


def run(out: Path, wanted: StudyRequest | None = None, **options: object) -> StudyReport:
    return study(
        wanted or request(), out=out, images=IMAGES[:40], test=IMAGES[40:], access=digits.access(out), **options
    )  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyReport]:
    out = tmp_path_factory.mktemp("study")
    return out, run(out)


@pytest.mark.long
def test_every_method_is_trained_with_every_seed_as_train_does_it(done: tuple[Path, StudyReport]) -> None:
    out, report = done
    assert [(one.method, one.seed) for one in report.models] == [
        (method.name, seed) for seed in (0, 3) for method in METHODS
    ]
    wanted = small_trainings.request().model_copy(
        update={
            "model": MODEL.model_copy(update={"weights": Weights(uri="random:3")}),
            "plan": METHODS[1].plan.model_copy(update={"seed": 3}),
        }
    )
    trained = train(wanted, images=IMAGES[:40], access=digits.access(out))
    assert trained.weights == (out / "weights" / "mixup-3.safetensors").read_bytes()
    assert report.models[4].weights == trained.report.trained.weights


def test_a_method_continues_the_model_of_the_same_seed(done: tuple[Path, StudyReport]) -> None:
    out, report = done
    continued = TrainingReport.model_validate_json((out / "trainings" / "longer-3.json").read_bytes())
    before = TrainingReport.model_validate_json((out / "trainings" / "mixup-3.json").read_bytes())
    assert continued.start.digest == before.trained.record.digest
    assert report.models[5].weights == continued.trained.weights != before.trained.weights


def test_the_rows_are_those_of_one_paired_audit_per_seed(done: tuple[Path, StudyReport]) -> None:
    out, report = done
    audits = {seed: read_report((out / "audits" / f"{seed}.json").read_bytes()) for seed in (0, 3)}
    for row in report.rows:
        if row.check == "performance":
            continue
        for value, seed in zip(row.per_seed, (0, 3), strict=True):
            rows = audits[seed].averages if row.averaged else (*audits[seed].results, *audits[seed].controls)
            (own,) = [
                one.mean
                for one in rows
                if (one.model, one.check, one.metric, one.variant) == (row.method, row.check, row.metric, row.variant)
                and (row.averaged or one.explainer == row.explainer)
            ]
            assert value == own
    # one audit: all models are measured on the same random orders, so equal models have equal values
    names = [model.name for model in audits[0].models]
    assert names == [method.name for method in METHODS]


def test_differences_are_from_the_baseline_with_the_same_seed(done: tuple[Path, StudyReport]) -> None:
    _, report = done
    rows = {
        row.method: row for row in report.rows if row.metric == "inter_model_deletion" and row.explainer == "grad_cam"
    }
    assert rows["baseline"].difference is None
    found = rows["mixup"].difference
    assert found is not None
    pairs = zip(rows["mixup"].per_seed, rows["baseline"].per_seed, strict=True)
    assert found.mean == pytest.approx(sum(one - other for one, other in pairs if one and other) / 2)  # type: ignore[operator]


def test_correlations_have_a_point_for_every_model(done: tuple[Path, StudyReport]) -> None:
    _, report = done
    assert [(one.metric, one.n) for one in report.correlations] == [("lerf_auc", 6), ("inter_model_deletion", 6)]
    assert all(one.pearson is not None and -1 <= one.pearson <= 1 for one in report.correlations)


def test_tables_have_a_line_per_method_and_a_column_per_explainer(done: tuple[Path, StudyReport]) -> None:
    out, _ = done
    text = (out / "tables.md").read_text()
    (block,) = [part for part in text.split("\n\n**") if part.startswith("deletion inter_model_deletion")]
    lines = block.splitlines()
    assert lines[2] == "| method | grad_cam | saliency | average |"
    assert [line.split(" | ")[0] for line in lines[4:7]] == ["| baseline", "| mixup", "| longer"]


def test_the_average_over_one_explainer_is_no_column_of_its_own(done: tuple[Path, StudyReport]) -> None:
    _, report = done
    of_one = report.model_copy(update={"rows": tuple(row for row in report.rows if row.explainer != "saliency")})
    table = metric_table(of_one, "deletion", "inter_model_deletion", None, methods=["baseline", "mixup"])
    assert table.columns == ("method", "grad_cam")
    assert table.in_markdown().splitlines()[2] == "| method | grad_cam |"


def test_an_interrupted_study_goes_on_where_it_was(done: tuple[Path, StudyReport], tmp_path: Path) -> None:
    """It is cancelled again and again; what was done is not done again, and the numbers are the same."""
    _, expected = done
    told: list[str] = []

    def until(share: float) -> object:
        def progress(done_: float, now: str) -> None:
            told.append(now)
            if done_ > share:
                raise AuditCancelled

        return progress

    for share in (0.3, 0.6):
        with pytest.raises(AuditCancelled):
            run(tmp_path, progress=until(share))
    weights = tmp_path / "weights" / "baseline-0.safetensors"
    before = weights.stat().st_mtime_ns
    told.clear()
    report = run(tmp_path, progress=until(2))
    assert weights.stat().st_mtime_ns == before
    assert "training baseline, seed 0" not in told
    assert report.rows == expected.rows
    assert [one.weights for one in report.models] == [one.weights for one in expected.models]


def test_damaged_weights_are_made_again(done: tuple[Path, StudyReport], tmp_path: Path) -> None:
    _, expected = done
    small = request(methods=METHODS[:2], seeds=(0,))
    run(tmp_path, small)
    weights = tmp_path / "weights" / "mixup-0.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    run(tmp_path, small)
    assert weights.read_bytes() == whole
    assert [one.weights for one in expected.models][1] == sha256(whole)


def test_the_folder_of_another_study_is_refused(done: tuple[Path, StudyReport]) -> None:
    out, _ = done
    with pytest.raises(InvalidRequest, match="holds another study") as caught:
        run(out, request(seeds=(0,)))
    assert caught.value.field == "out"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": METHODS[:1]}, "at least 2"),
        ({"seeds": (1, 1)}, "two seeds are 1"),
        ({"methods": (METHODS[0], METHODS[0])}, "two methods are 'baseline'"),
        ({"methods": (METHODS[2], METHODS[1])}, "continues 'mixup', which does not come before it; known there: none"),
        ({"methods": (METHODS[0], METHODS[2].model_copy(update={"model": MODEL}).model_dump())}, "give one of the two"),
    ],
)
def test_plans_that_contradict_themselves_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        request(**changes)


def test_images_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        study(request(), out=tmp_path, images=IMAGES[:40], access=digits.access(tmp_path))
    assert caught.value.field == "test"


def test_images_of_the_training_are_not_tested_on(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidRequest, match=r"2 test images are images of the training, such as digit-38.png"
    ) as caught:
        study(request(), out=tmp_path, images=IMAGES[:40], test=IMAGES[38:], access=digits.access(tmp_path))
    assert caught.value.field == "test"


def test_a_full_disk_is_named_and_the_study_goes_on_afterwards(tmp_path: Path) -> None:
    small = request(methods=METHODS[:2], seeds=(0,))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "mixup-0.safetensors.part").symlink_to("/dev/full")
    with pytest.raises(
        InvalidRequest, match=r"mixup-0.safetensors cannot be written \(No space left on device\)"
    ) as caught:
        run(tmp_path, small)
    assert caught.value.field == "out"
    assert not (tmp_path / "trainings" / "mixup-0.json").exists()
    assert [one.method for one in run(tmp_path, small).models] == ["baseline", "mixup"]
