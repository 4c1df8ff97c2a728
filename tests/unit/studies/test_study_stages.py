"""A study stage by stage: interrupted anywhere, it comes to the same numbers; its price is what it counts."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

import digits
import small_trainings
from auditcore import (
    Adam,
    AuditPlan,
    DeletionCheck,
    GradCam,
    Mixup,
    Saliency,
    StudyMethod,
    StudyPlan,
    StudyReport,
    StudyRequest,
    TrainingPlan,
    study,
)
from auditcore.contracts.access import AccessRules
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.experiments.stage import REPORT
from auditcore.contracts.experiments.stages import stages_of
from auditcore.contracts.models import FactoryModel, Weights
from auditcore.contracts.training.report import TrainingReport
from auditcore.costs.study_estimate import study_estimate
from auditcore.errors import InvalidRequest, WorkInterrupted
from auditcore.experiments.running import ExperimentInputs, StagedRun, open_experiment
from auditcore.kept_files import KeptFiles, KeptFolder
from interrupted_work import abandon_everywhere, die_everywhere, files_of, stop_everywhere

MODEL = FactoryModel(target="digits:build", weights=Weights(uri="random:9"), preprocessing=digits.PREPROCESSING)
PLAN = TrainingPlan(epochs=2, batch_size=16, optimizer=Adam(learning_rate=0.01))
METHODS = (
    StudyMethod(name="baseline", plan=PLAN),
    StudyMethod(name="longer", plan=PLAN.model_copy(update={"method": Mixup(), "epochs": 1}), continues="baseline"),
)
REQUEST = StudyRequest(
    model=MODEL,
    images=small_trainings.ANYWHERE,
    test=small_trainings.ANYWHERE,
    plan=StudyPlan(
        methods=METHODS,
        seeds=(0, 3),
        audit=AuditPlan(explainers=(GradCam(), Saliency()), checks=(DeletionCheck(grid=3, repeats=2),)),
        audit_images=4,
    ),
)
STAGES = stages_of(REQUEST)
IMAGES = digits.encoded(42, labeled=True)
INPUTS = ExperimentInputs(IMAGES[:32], test=IMAGES[32:])


def opened(kept: KeptFiles, folder: Path, inputs: ExperimentInputs = INPUTS) -> StagedRun:
    access = AccessRules(factories=("digits:build",), file_roots=(folder,))
    return open_experiment(REQUEST, inputs, experiment_id="study-1", kept=kept, access=access, device="cpu")


def in_folder(folder: Path) -> StagedRun:
    return opened(KeptFolder(folder), folder)


def numbers(folder: Path) -> dict[str, Any]:
    """Everything in the report but seconds, and digests of reports that tell seconds."""
    found = StudyReport.model_validate_json((folder / REPORT).read_bytes()).model_dump(mode="json")
    del found["seconds"], found["audits"]
    for model in found["models"]:
        del model["seconds"], model["training_report"]
    return found


def weights(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "weights").iterdir()}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study")
    study(REQUEST, out=out, images=INPUTS.images, test=INPUTS.test, access=digits.access(out))
    return out


def assert_same(folder: Path, done: Path) -> None:
    assert weights(folder) == weights(done)
    assert numbers(folder) == numbers(done)
    assert (folder / "tables.md").read_bytes() == (done / "tables.md").read_bytes()
    # what was kept only to go on from is gone
    assert files_of(folder) == files_of(done) - {"request.json"}


@pytest.mark.long
def test_processes_that_are_stopped_at_the_first_question(done: Path, tmp_path: Path) -> None:
    interrupted = stop_everywhere(functools.partial(in_folder, tmp_path), STAGES)
    assert interrupted == [stage.name for stage in STAGES[:-1]]
    assert_same(tmp_path, done)


@pytest.mark.long
def test_processes_that_give_up_in_the_middle(done: Path, tmp_path: Path) -> None:
    abandoned = abandon_everywhere(functools.partial(in_folder, tmp_path), STAGES)
    assert abandoned == [stage.name for stage in STAGES[:-1]]
    assert_same(tmp_path, done)


@pytest.mark.long
def test_a_process_that_ends_after_any_change_of_a_file(done: Path, tmp_path: Path) -> None:
    # a checkpoint that may be left behind
    with pytest.raises(WorkInterrupted):
        in_folder(tmp_path).run(STAGES[0], progress=lambda _share: None, enough=lambda: True)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1
    changes = die_everywhere(lambda kept: opened(kept, tmp_path), STAGES, tmp_path)
    assert {name for how, name in changes if how == "keep"} >= files_of(tmp_path)
    assert_same(tmp_path, done)


def test_a_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """What was trained is not trained again: each process takes one step."""
    interruptions = 0
    for _ in range(10):
        try:
            in_folder(tmp_path).run(STAGES[0], progress=lambda _share: None, enough=lambda: True)
        except WorkInterrupted:
            interruptions += 1
    assert (tmp_path / "trainings" / "baseline-0.json").exists()
    # two epochs of two batches; the last step ends the training all the same
    assert interruptions == 2 * 2 - 1


def test_what_is_done_is_not_done_again(tmp_path: Path, done: Path) -> None:
    told: list[str] = []
    before = {name: (done / name).stat().st_mtime_ns for name in files_of(done) - {REPORT, "tables.md"}}
    found = study(
        REQUEST,
        out=done,
        images=INPUTS.images,
        test=INPUTS.test,
        access=digits.access(tmp_path),
        progress=lambda _share, now: told.append(now),
    )
    assert told == ["done"]
    assert {name: (done / name).stat().st_mtime_ns for name in before} == before
    assert found == StudyReport.model_validate_json((done / REPORT).read_bytes())


def test_progress_is_told_by_weight(tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []
    study(
        REQUEST,
        out=tmp_path,
        images=INPUTS.images,
        test=INPUTS.test,
        access=digits.access(tmp_path),
        progress=lambda share, now: told.append((share, now)),
    )
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert told[-1] == (1.0, "done")
    whole = sum(stage.weight for stage in STAGES)
    assert max(share for share, now in told if now == STAGES[0].title) == pytest.approx(STAGES[0].weight / whole)
    assert list(dict.fromkeys(now for _, now in told)) == [*(stage.title for stage in STAGES[:-1]), "done"]


def test_the_price_is_what_the_models_count(done: Path) -> None:
    report = StudyReport.model_validate_json((done / REPORT).read_bytes())
    data = TrainingReport.model_validate_json((done / "trainings" / "baseline-0.json").read_bytes()).data
    expected = study_estimate(
        REQUEST.plan,
        MODEL,
        training=data.training_images,
        validation=data.validation_images,
        test=10,
        passes_per_s=50.0,
    )
    assert (report.forward_images, report.backward_images) == (expected.forward_images, expected.backward_images)
    assert (expected.images, expected.basis, expected.device) == (42, "assumed", None)
    assert expected.seconds == pytest.approx(expected.passes / 50.0, abs=0.01)


def test_a_share_of_the_images_costs_a_share_of_the_steps() -> None:
    def price(share: float) -> int:
        plan = PLAN.model_copy(update={"share": share})
        methods = tuple(method.model_copy(update={"plan": plan}) for method in METHODS)
        whole = REQUEST.plan.model_copy(update={"methods": methods})
        return study_estimate(whole, MODEL, training=40, validation=10, test=10, passes_per_s=50.0).backward_images

    # two methods, two seeds, two epochs
    assert price(1) - price(0.5) == 2 * 2 * 2 * 20


def test_a_checkpoint_on_a_full_disk_is_named_and_the_stage_goes_on_afterwards(done: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "baseline-0.part").symlink_to("/dev/full")
    with pytest.raises(InvalidRequest, match=r"baseline-0 cannot be written \(No space left on device\)") as caught:
        in_folder(tmp_path).run(STAGES[0], progress=lambda _share: None, enough=lambda: True)
    assert caught.value.field == "out"
    in_folder(tmp_path).run(STAGES[0], progress=lambda _share: None, enough=lambda: False)
    assert (tmp_path / "weights" / "baseline-0.safetensors").read_bytes() == weights(done)["baseline-0.safetensors"]


@pytest.mark.parametrize("name", ["report.json", "request.json"])
def test_the_folder_of_something_else_is_refused_and_stays_as_it_is(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b'{"verdict": "fail"}')
    with pytest.raises(InvalidRequest, match="holds another study") as caught:
        study(REQUEST, out=tmp_path, images=INPUTS.images, test=INPUTS.test, access=digits.access(tmp_path))
    assert caught.value.field == "out"
    assert files_of(tmp_path) == {name}
    assert (tmp_path / name).read_bytes() == b'{"verdict": "fail"}'


def test_a_kept_file_that_is_gone_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    stages = {stage.name: stage for stage in STAGES}
    in_folder(folder).run(stages["baseline-0"], progress=lambda _share: None, enough=lambda: False)
    (folder / "weights" / "baseline-0.safetensors").unlink()
    with pytest.raises(
        InvalidRequest, match=r"weights/baseline-0.safetensors was kept by an earlier stage and is gone"
    ):
        in_folder(folder).run(stages["longer-0"], progress=lambda _share: None, enough=lambda: False)
    with pytest.raises(InvalidRequest, match=r"models/longer-0.json was kept"):
        in_folder(folder).run(stages["report"], progress=lambda _share: None, enough=lambda: False)


def test_a_study_needs_test_images(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="needs test images") as caught:
        opened(KeptFolder(tmp_path), tmp_path, ExperimentInputs(IMAGES[:32]))
    assert caught.value.field == "test"


def test_models_are_named_by_the_digest_of_their_weights(done: Path) -> None:
    report = StudyReport.model_validate_json((done / REPORT).read_bytes())
    assert {f"{one.method}-{one.seed}.safetensors": one.weights for one in report.models} == {
        name: sha256(data) for name, data in weights(done).items()
    }
    for one in report.models:
        data = (done / "trainings" / f"{one.method}-{one.seed}.json").read_bytes()
        assert one.training_report == sha256(data)
    assert report.audits == {seed: sha256((done / "audits" / f"{seed}.json").read_bytes()) for seed in (0, 3)}
