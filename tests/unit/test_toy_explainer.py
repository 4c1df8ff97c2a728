"""What a contributor writes for a new explainer: a contract, an implementation, a line in either registry.

The test adds them to a copy of the source tree, as a contributor would, and audits with the new explainer from the JSON
request to the page. The explainer is stochastic, shares a pass, has a diagnostic and a baseline.
"""

from __future__ import annotations

from typing import Any

import pytest

import digits
from altered_source import answer_of, with_additions

CONTRACT = '''"""Gradient under random dropout of pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, final

from auditcore.contracts.explainers.baselines import Baseline, Color
from auditcore.contracts.explainers.diagnostics import Diagnostic
from auditcore.contracts.explainers.explainer import ExplainerContract, MapKind, Need, SharedPass
from auditcore.contracts.explainers.steps import Steps
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.metric import Metric
from auditcore.contracts.pass_counts import GRADIENT, Passes

DROPOUT_AGREEMENT = Diagnostic(
    metric=Metric(
        control=True,
        unit="cosine",
        higher_is_better=True,
        lowest=-1,
        highest=1,
        meaning="Cosine of the gradient and the mean gradient under dropout.",
    ),
    undefined="one of the two gradients is 0",
)


@final
class DropoutGradient(ExplainerContract):
    """Mean gradient over the image and copies of it that lack random pixels."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient"})
    paper: ClassVar[str] = "made up for this test"
    default_map_kind: ClassVar[MapKind] = "sensitivity"
    shared_passes: ClassVar[frozenset[SharedPass]] = frozenset({"input_gradient"})
    diagnostics: ClassVar[Mapping[str, Diagnostic]] = {"dropout_agreement": DROPOUT_AGREEMENT}
    kind: Literal["dropout_gradient"] = "dropout_gradient"
    samples: Steps = 3
    baseline: Color = "black"

    @property
    def stochastic(self) -> bool:
        """Always: it draws which pixels are missing."""
        return True

    @property
    def compared_with(self) -> Baseline:
        """What missing pixels show."""
        return self.baseline

    def own_passes(self, *, original: bool, shape: InputShape) -> Passes:
        """A gradient per sample."""
        return GRADIENT.times(self.samples)
'''

IMPLEMENTATION = '''"""Gradient under random dropout of pixels."""

from __future__ import annotations

import torch

from auditcore.contracts.explainers import DropoutGradient
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.baselines import baseline_pixels
from auditcore.explainers.shared_pass import input_gradients


def dropout_gradient(batch: Batch, contract: DropoutGradient) -> Attribution:
    """Mean gradient over the image and copies of it that lack random pixels."""
    plain = input_gradients(batch)
    dropped = torch.zeros_like(plain)
    shape = (1, *batch.pixels.shape[2:])
    missing = baseline_pixels(batch, contract.baseline)
    for sample in range(contract.samples):
        kept = batch.streams.uniform(shape, "dropout_gradient", sample, device=plain.device) < 0.8
        inputs = batch.classifier.normalize(torch.where(kept, batch.pixels, missing))
        dropped += batch.classifier.gradient(inputs, batch.targets)[0] / contract.samples
    agreement = torch.nn.functional.cosine_similarity(plain.flatten(1), dropped.flatten(1))
    return Attribution((plain + contract.samples * dropped) / (contract.samples + 1), {"dropout_agreement": agreement})
'''

REGISTRY_LINES = (
    (
        "contracts/explainers/__init__.py",
        "from auditcore.contracts.explainers.explainer import ExplainerContract\n",
        "from auditcore.contracts.explainers.dropout_gradient import DropoutGradient\n",
    ),
    ("contracts/explainers/__init__.py", "    | Saliency\n", "    | DropoutGradient\n"),
    ("explainers/registry.py", "    Deconvolution,\n", "    DropoutGradient,\n"),
    ("explainers/registry.py", "    deep_lift,\n", "    dropout_gradient,\n"),
    (
        "explainers/registry.py",
        "    Random: Method(random.random),\n",
        "    DropoutGradient: Method(dropout_gradient.dropout_gradient),\n",
    ),
)
"""File, the line before which a line goes, the line: a registry entry each and the imports that it needs."""

AUDIT = """
import json, sys
from pathlib import Path

import auditcore, digits
from auditcore.costs.estimate import waves_of
from auditcore.costs.passes import ModelFacts, passes_needed
from auditcore.report.page.html import render_html
from auditcore_service.cli.documents import documents
from auditcore_service.gateway.catalogue import build_catalogue

asked = json.loads(sys.stdin.read())
folder, images = Path(asked["folder"]), asked["images"]
request = auditcore.AuditRequest.model_validate_json(json.dumps(asked["request"]))
report = auditcore.audit(
    request, images=digits.encoded(images), access=digits.access(folder), shard_images=images, micro_batch=5
)
facts = ModelFacts(shape=digits.PREPROCESSING.shape)
(wave,) = waves_of(report.plan)
inspected = auditcore.inspect_model(
    auditcore.InspectionRequest(model=request.model, plan=request.plan), access=digits.access(folder)
)
print(json.dumps({
    "report": json.loads(auditcore.report_bytes(report)),
    "page": render_html(report),
    "price": {
        name: [passes.forward, passes.backward]
        for name, passes in passes_needed(report.plan, wave=wave, images=images, facts=facts).items()
    },
    "catalogue": build_catalogue().model_dump(mode="json", by_alias=True),
    "openapi": json.loads(documents()["openapi.json"]),
    "inspection": inspected.model_dump(mode="json"),
}))
"""

IMAGES = 4


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an audit with the new explainer gives, from a process whose source tree has it."""
    folder = tmp_path_factory.mktemp("toy")
    tree = with_additions(
        folder,
        {"contracts/explainers/dropout_gradient.py": CONTRACT, "explainers/dropout_gradient.py": IMPLEMENTATION},
        REGISTRY_LINES,
    )
    request = {
        "model": digits.reference(digits.write_weights(folder)).model_dump(mode="json"),
        "images": {"kind": "batch", "digest": f"sha256:{'0' * 64}"},
        "plan": {
            "seed": 3,
            "explainers": [{"kind": "gradient"}, {"kind": "dropout_gradient", "samples": 2}],
            "checks": [
                {
                    "kind": "sweep",
                    "levels": 3,
                    "augmentations": [{"kind": "brightness", "interval": [-0.3, 0.3]}],
                },
                {"kind": "deletion", "grid": 3, "repeats": 2, "fill": "mean"},
            ],
        },
    }
    return answer_of(tree, AUDIT, {"folder": str(folder), "images": IMAGES, "request": request})


@pytest.mark.long
def test_passes_made_are_passes_priced(found: dict[str, Any]) -> None:
    checks = found["report"]["cost"]["checks"]
    made = {name: [cost["forward_images"], cost["backward_images"]] for name, cost in checks.items()}
    assert made == found["price"]
    # the gradient of an original is its prediction, and both explainers read it; two samples belong to the new one
    assert made["originals"] == [IMAGES * 3, IMAGES * 3]
    # another draw makes the samples again, and reads the gradient that is known
    assert made["repeatability"] == [IMAGES * 2, IMAGES * 2]
    # on a changed copy both read one gradient, which is the probability too
    assert made["sweep"] == [IMAGES * 2 * 3, IMAGES * 2 * 3]


def test_its_results_controls_and_warnings_are_in_the_report(found: dict[str, Any]) -> None:
    report = found["report"]
    metrics = {row["metric"] for row in report["results"] if row["explainer"] == "dropout_gradient"}
    assert metrics >= {"pearson_score", "inter_model_deletion"}
    controls = {row["metric"]: row for row in report["controls"] if row["explainer"] == "dropout_gradient"}
    assert {"dropout_agreement", "repeatability"} <= set(controls)
    assert 0 < controls["dropout_agreement"]["mean"] <= 1
    assert 0 < controls["repeatability"]["mean"] < 1
    (warning,) = (one for one in report["warnings"] if one["code"] == "baseline_differs_from_fill")
    assert "dropout_gradient" in warning["message"]
    assert "Set `baseline` of dropout_gradient to `mean`" in warning["message"]


def test_the_page_shows_it(found: dict[str, Any]) -> None:
    assert "dropout_gradient" in found["page"]
    assert "Cosine of the gradient and the mean gradient under dropout." in found["page"]


def test_catalogue_inspection_and_openapi_list_it(found: dict[str, Any]) -> None:
    (entry,) = (one for one in found["catalogue"]["explainers"] if one["kind"] == "dropout_gradient")
    assert entry["meaning"] == "Mean gradient over the image and copies of it that lack random pixels."
    assert (entry["paper"], entry["needs"], entry["map_kind"]) == (
        "made up for this test",
        ["gradient"],
        "sensitivity",
    )
    assert entry["schema"]["properties"]["samples"]["default"] == 3
    assert found["catalogue"]["metrics"]["explainer"]["dropout_agreement"]["unit"] == "cosine"
    assert {"name": "dropout_gradient", "runs": True, "reason": None, "layer": None} in found["inspection"][
        "explainers"
    ]
    assert "DropoutGradient" in found["openapi"]["components"]["schemas"]
