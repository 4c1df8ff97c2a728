"""A remedy stage by stage: interrupted anywhere, it comes to the same numbers; its price is what it counts."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import digits
import small_trainings
from auditcore import (
    AuditPlan,
    AuditReport,
    AuditRequest,
    Condition,
    EddaCheck,
    GradCam,
    Gradient,
    Remedy,
    RemedyPlan,
    RemedyReport,
    RemedyRequest,
    audit,
    remedy,
)
from auditcore.contracts.access import AccessRules
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.experiments.stage import REPORT, WEIGHTS
from auditcore.contracts.experiments.stages import stages_of
from auditcore.contracts.training.report import TrainingReport
from auditcore.costs.cost_model import Estimate
from auditcore.costs.remedy_estimate import remedy_estimate
from auditcore.errors import InvalidRequest, WorkInterrupted
from auditcore.experiments.running import ExperimentInputs, StagedRun, open_experiment
from auditcore.kept_files import KeptFiles, KeptFolder
from auditcore.report.serialize import report_bytes
from interrupted_work import abandon_everywhere, die_everywhere, files_of, stop_everywhere

DROP = Condition(
    id="drop", check="edda", explainer="grad_cam", metric="drop_percent", variant="top_30", at_most=1, min_images=4
)
IMAGES = digits.encoded(90, labeled=True)
AUDITED = IMAGES[:10]
PLAN = RemedyPlan(learning_rates=(1e-3, 1e-4), epochs=(1, 2), accuracy_guard=1, probe_images=4, batch_size=20)
REQUEST = RemedyRequest(images=small_trainings.ANYWHERE, plan=PLAN)
STAGES = stages_of(REQUEST)
RESULTS = {WEIGHTS, REPORT, "start.json", "training.json", "audit.json", "trainings/search-0.json"} | {
    "trainings/search-1.json"
}


class Begun(NamedTuple):
    """A failed audit, and the folder of its model."""

    folder: Path
    failed: AuditReport


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Begun:
    folder = tmp_path_factory.mktemp("model")
    request = AuditRequest(
        model=digits.reference(digits.write_weights(folder)),
        images=small_trainings.ANYWHERE,
        plan=AuditPlan(explainers=(GradCam(), Gradient()), checks=(EddaCheck(keep=(0.3,), color="mean"),)),
        policy=(DROP,),
    )
    return Begun(folder, audit(request, images=AUDITED, access=digits.access(folder)))


def local(begun: Begun, out: Path, request: RemedyRequest = REQUEST, **changes: Any) -> Remedy:
    options = {"audited_images": AUDITED, "images": IMAGES[10:], "access": digits.access(begun.folder)} | changes
    return remedy(begun.failed, request, out=out, **options)


@pytest.fixture(scope="module")
def done(begun: Begun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("remedy")
    local(begun, out)
    return out


def opened(begun: Begun, kept: KeptFiles, folder: Path, request: RemedyRequest = REQUEST) -> StagedRun:
    access = AccessRules(factories=("digits:build",), file_roots=(begun.folder, folder))
    inputs = ExperimentInputs(IMAGES[10:], test=AUDITED, failed=begun.failed)
    return open_experiment(request, inputs, experiment_id="again", kept=kept, access=access, device="cpu")


def in_folder(begun: Begun, folder: Path) -> StagedRun:
    return opened(begun, KeptFolder(folder), folder)


def numbers(folder: Path) -> dict[str, Any]:
    """Everything in the report but seconds, and digests of reports that tell seconds."""
    found = RemedyReport.model_validate_json((folder / REPORT).read_bytes()).model_dump(mode="json")
    del found["seconds"], found["training_report"], found["audit_report"]
    return found


def assert_same(folder: Path, done: Path) -> None:
    assert (folder / WEIGHTS).read_bytes() == (done / WEIGHTS).read_bytes()
    assert numbers(folder) == numbers(done)


def test_kept_are_the_results_and_nothing_that_was_only_needed_to_go_on(begun: Begun, done: Path) -> None:
    assert files_of(done) == RESULTS | {"request.json", "policy.json"}
    report = RemedyReport.model_validate_json((done / REPORT).read_bytes())
    assert report.request.report == report.failed_report == sha256(report_bytes(begun.failed))
    assert report.training_report == sha256((done / "training.json").read_bytes())
    assert report.audit_report == sha256((done / "audit.json").read_bytes())
    training = TrainingReport.model_validate_json((done / "training.json").read_bytes())
    assert training.trained.weights == sha256((done / WEIGHTS).read_bytes())


def test_processes_that_are_stopped_at_the_first_question(begun: Begun, done: Path, tmp_path: Path) -> None:
    interrupted = stop_everywhere(functools.partial(in_folder, begun, tmp_path), STAGES)
    assert interrupted == ["search-0", "search-1", "train", "audit"]
    assert_same(tmp_path, done)
    assert files_of(tmp_path) == RESULTS


def test_processes_that_give_up_in_the_middle(begun: Begun, done: Path, tmp_path: Path) -> None:
    abandoned = abandon_everywhere(functools.partial(in_folder, begun, tmp_path), STAGES)
    assert abandoned == ["search-0", "search-1", "train", "audit"]
    assert_same(tmp_path, done)
    assert files_of(tmp_path) == RESULTS


@pytest.mark.long
def test_a_process_that_ends_after_any_change_of_a_file(begun: Begun, done: Path, tmp_path: Path) -> None:
    # a checkpoint that may be left behind
    with pytest.raises(WorkInterrupted):
        in_folder(begun, tmp_path).run(STAGES[1], progress=lambda _share: None, enough=lambda: True)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1
    changes = die_everywhere(lambda kept: opened(begun, kept, tmp_path), STAGES, tmp_path)
    assert {name for how, name in changes if how == "keep"} >= RESULTS
    assert_same(tmp_path, done)
    assert files_of(tmp_path) == RESULTS


def test_a_remedy_in_its_folder_is_not_done_again(begun: Begun, done: Path) -> None:
    told: list[str] = []
    before = {name: (done / name).stat().st_mtime_ns for name in files_of(done) - {REPORT}}
    found = local(begun, done, progress=lambda _share, now: told.append(now))
    assert told == ["done"]
    assert {name: (done / name).stat().st_mtime_ns for name in before} == before
    assert found.report == RemedyReport.model_validate_json((done / REPORT).read_bytes())
    assert found.model is not None
    assert found.model.weights.uri == (done / WEIGHTS).as_uri()


def test_damaged_weights_are_made_again(begun: Begun, done: Path) -> None:
    whole = (done / WEIGHTS).read_bytes()
    (done / WEIGHTS).write_bytes(whole[:-10])
    local(begun, done)
    assert (done / WEIGHTS).read_bytes() == whole


def test_nothing_more_is_kept_if_nothing_keeps_the_accuracy(begun: Begun, tmp_path: Path) -> None:
    hopeless = PLAN.model_copy(update={"learning_rates": (1.0,), "epochs": (1,), "accuracy_guard": 0.0})
    request = REQUEST.model_copy(update={"plan": hopeless})
    run = opened(begun, KeptFolder(tmp_path), tmp_path, request)
    for stage in stages_of(request):
        before = files_of(tmp_path)
        run.run(stage, progress=lambda _share: None, enough=lambda: False)
        if stage.name in {"train", "audit"}:
            assert files_of(tmp_path) == before
    report = RemedyReport.model_validate_json((tmp_path / REPORT).read_bytes())
    assert (report.outcome, report.model, report.audit_report) == ("no_candidate", None, None)


def priced(begun: Begun, out: Path, plan: RemedyPlan) -> tuple[RemedyReport, Estimate]:
    report = local(begun, out, REQUEST.model_copy(update={"plan": plan})).report
    data = TrainingReport.model_validate_json((out / "training.json").read_bytes()).data
    price = remedy_estimate(
        plan,
        begun.failed,
        training=data.training_images,
        validation=data.validation_images,
        passes_per_s=50.0,
    )
    return report, price


def test_the_price_is_what_the_model_counts(begun: Begun, tmp_path: Path) -> None:
    """With one number of epochs, the chosen training has the most epochs that were tried."""
    plan = PLAN.model_copy(update={"method": "inter_model_deletion_loss", "epochs": (1,)})
    report, price = priced(begun, tmp_path, plan)
    assert (report.forward_images, report.backward_images) == (price.forward_images, price.backward_images)
    assert (price.images, price.basis) == (90, "assumed")
    assert price.seconds == pytest.approx(price.passes / 50.0, abs=0.01)


def test_the_price_is_the_most_that_edda_may_need(begun: Begun, tmp_path: Path) -> None:
    """EDDA learns from one to three images, as its masks have it."""
    plan = PLAN.model_copy(update={"epochs": (2,)})
    report, price = priced(begun, tmp_path, plan)
    spared = price.backward_images - report.backward_images
    assert 0 < spared <= 2 / 3 * price.backward_images
    assert spared <= price.forward_images - report.forward_images <= price.forward_images / 2
    # of several numbers of epochs, the most are priced
    more = remedy_estimate(PLAN, begun.failed, training=40, validation=20, passes_per_s=50.0)
    assert more == remedy_estimate(plan, begun.failed, training=40, validation=20, passes_per_s=50.0)


def test_a_full_disk_is_named_and_the_remedy_goes_on_afterwards(begun: Begun, done: Path, tmp_path: Path) -> None:
    (tmp_path / f"{WEIGHTS}.part").symlink_to("/dev/full")
    with pytest.raises(
        InvalidRequest, match=r"model.safetensors cannot be written \(No space left on device\)"
    ) as caught:
        local(begun, tmp_path)
    assert caught.value.field == "out"
    assert not (tmp_path / "training.json").exists()
    local(begun, tmp_path)
    assert_same(tmp_path, done)


def test_the_folder_of_another_remedy_is_refused(begun: Begun, done: Path) -> None:
    other = REQUEST.model_copy(update={"plan": PLAN.model_copy(update={"seed": 1})})
    with pytest.raises(InvalidRequest, match="holds another remedy") as caught:
        local(begun, done, other)
    assert caught.value.field == "out"
    # the same wishes about another report
    again = Begun(begun.folder, begun.failed.model_copy(update={"audit_id": "another"}))
    with pytest.raises(InvalidRequest, match="holds another remedy"):
        local(again, done)
    with pytest.raises(InvalidRequest, match="has begun with another policy") as policy:
        local(begun, done, policy=(DROP.model_copy(update={"at_most": 3}),))
    assert policy.value.field == "policy"


def test_another_report_than_the_request_names_is_refused(begun: Begun, tmp_path: Path) -> None:
    named = REQUEST.model_copy(update={"report": f"sha256:{1:064d}"})
    with pytest.raises(InvalidRequest, match="the request is about report sha256:0") as caught:
        local(begun, tmp_path, named)
    assert caught.value.field == "report"
    assert not files_of(tmp_path)
    right = REQUEST.model_copy(update={"report": sha256(report_bytes(begun.failed))})
    opened(begun, KeptFolder(tmp_path), tmp_path, right)


def test_a_remedy_needs_a_failed_report_and_its_images(begun: Begun, tmp_path: Path) -> None:
    for inputs, missing in (
        (ExperimentInputs(IMAGES[10:], test=AUDITED), "the failed report"),
        (ExperimentInputs(IMAGES[10:], failed=begun.failed), "the images of the failed audit"),
    ):
        with pytest.raises(InvalidRequest, match=missing) as caught:
            open_experiment(
                REQUEST,
                inputs,
                experiment_id="again",
                kept=KeptFolder(tmp_path),
                access=digits.access(begun.folder),
                device="cpu",
            )
        assert caught.value.field == "audit"
