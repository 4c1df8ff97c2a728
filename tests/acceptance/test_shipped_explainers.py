"""The guide to the explainer of a product: its code runs with pytorch-grad-cam and SHAP on the demo model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import skimage
import torch

from auditcore.auditing import audit
from auditcore.contracts.access import AccessRules
from auditcore.contracts.explainers import CallableExplainer, GradCam
from auditcore.contracts.models import DemoModel
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.explainers.registry import applicability, explain
from auditcore.models.loading import load_classifier
from auditcore.random_numbers.streams import Streams
from markdown_blocks import ROOT, blocks

pytestmark = [pytest.mark.slow, pytest.mark.long]

GUIDE = ROOT / "docs" / "how-to" / "audit-the-explainer-you-ship.md"
PHOTOS = Path(skimage.__file__).parent / "data"
NAMES = ("coffee", "chelsea")
TARGETS = ("heatmaps:grad_cam", "heatmaps:shap_gradients")


@pytest.fixture(scope="module")
def heatmaps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the file that the guide writes, where Python finds it."""
    folder = tmp_path_factory.mktemp("product")
    (code,) = (block.text for block in blocks(GUIDE) if block.language == "python")
    (folder / "heatmaps.py").write_text(code)
    sys.path.insert(0, str(folder))
    return folder


@pytest.fixture(scope="module")
def report(heatmaps: Path) -> AuditReport:
    (written,) = (json.loads(block.text) for block in blocks(GUIDE) if block.language == "json")
    images = {"kind": "uris", "uris": [{"uri": f"file://{PHOTOS}/{name}.png"} for name in NAMES]}
    request = AuditRequest.model_validate(written | {"images": images})
    assert heatmaps.exists()
    return audit(request, access=AccessRules(file_roots=(PHOTOS,), explainers=TARGETS), micro_batch=4)


def test_every_explainer_of_the_guide_has_results(report: AuditReport) -> None:
    labels = {"product_cam", "product_shap", "captum_cam", "grad_cam"}
    for check in ("sweep", "deletion"):
        valued = {one.explainer for one in report.results if one.check == check and one.mean is not None}
        assert labels <= valued
    assert {one.explainer for one in report.controls if one.metric == "repeatability"} == {"product_shap"}
    assert {one.explainer for one in report.controls if one.metric == "cosine_to_own"} == {"captum_cam"}


@pytest.mark.usefixtures("heatmaps")
def test_pytorch_grad_cam_is_our_grad_cam_up_to_its_scale() -> None:
    classifier = load_classifier(DemoModel(), access=AccessRules())
    product = CallableExplainer(target=TARGETS[0], arguments={"layer": "_conv_head"})
    assert applicability(classifier, product) is None
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    targets = classifier.logits(images).argmax(1)
    streams = Streams(1, ("a", "b"))
    found, own = (
        explain(classifier, one, images, targets, streams).maps for one in (product, GradCam(layer="_conv_head"))
    )
    # it enlarges with OpenCV and scales each map to [0, 1]
    for one, other in zip(found, own, strict=True):
        pair = torch.stack([one.flatten(), other.flatten()])
        assert float(torch.corrcoef(pair)[0, 1]) > 0.99
    assert float(found.max()) == pytest.approx(1, abs=1e-3)
