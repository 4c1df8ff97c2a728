"""What a contributor writes for a new check: a contract with its metrics, an implementation, a line in either registry.

The test adds them to a copy of the source tree, as a contributor would, and audits with the new check from the JSON
request to the page. The check needs a quantity of the whole audit, so that the audit has two waves, and it runs in
shards of two images.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

import digits
from altered_source import answer_of, with_additions

CONTRACT = '''"""Half loss: what the left half of the image is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, final

from auditcore.contracts.checks.check import CheckContract, CheckNeed, CurveLine, Question
from auditcore.contracts.checks.check_case import CheckCase
from auditcore.contracts.metric import Metric
from auditcore.contracts.pass_counts import LOGITS, Passes

METRICS: Mapping[str, Metric] = {
    "half_loss": Metric(
        unit="ratio",
        higher_is_better=None,
        of_explainer=False,
        meaning="Target probability lost without the left half, over the mean loss of the whole audit.",
    ),
    "half_relevance": Metric(
        unit="ratio",
        higher_is_better=True,
        meaning="Share of absolute relevance in the left half, times half_loss.",
    ),
}


@final
class HalfLossCheck(CheckContract):
    """Does the map lie on the half of the image that the prediction needs?"""

    needs: ClassVar[frozenset[CheckNeed]] = frozenset({"class_scores"})
    paper: ClassVar[str] = "made up for this test"
    question: ClassVar[Question] = "faithfulness"
    metrics: ClassVar[Mapping[str, Metric]] = METRICS
    headlines: ClassVar[tuple[str, ...]] = ("half_relevance",)
    lines: ClassVar[Mapping[str, CurveLine]] = {"half_relevance": CurveLine("what is left", "one")}
    axis: ClassVar[str] = "share of columns removed"
    kind: Literal["half_loss"] = "half_loss"
    fill: Literal["black"] = "black"

    @property
    def needs_measure_wave(self) -> bool:
        """Always: it needs the mean loss of the audit."""
        return True

    def measure_passes(self, case: CheckCase, rows: int) -> Passes:
        """The image without its left half."""
        return LOGITS.times(rows)

    def passes(self, case: CheckCase, rows: int) -> Passes:
        """The same again; nothing is kept between the waves but the mean."""
        return LOGITS.times(rows)

    @property
    def fills(self) -> Mapping[str, str]:
        """What the left half becomes."""
        return {"fill": self.fill}
'''

IMPLEMENTATION = '''"""Half loss: what the left half of the image is worth."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.checks.image_group import ImageGroup
from auditcore.checks.measuring import measurement
from auditcore.contracts.checks.half_loss import HalfLossCheck
from auditcore.contracts.shards import Measurement, SharedSample


def measure_shared(check: HalfLossCheck, group: ImageGroup) -> list[SharedSample]:
    """The loss of each image."""
    values = tuple((loss,) for loss in _losses(group).double().tolist())
    return [SharedSample(key=f"{check.label}.mean_loss", values=values)]


def reduce_shared(
    check: HalfLossCheck, samples: Mapping[str, Sequence[Sequence[float]]]
) -> dict[str, tuple[float, ...]]:
    """The mean loss of the audit."""
    key = f"{check.label}.mean_loss"
    return {key: (statistics.fmean(row[0] for row in samples[key]),)} if samples.get(key) else {}


def compute(check: HalfLossCheck, group: ImageGroup, shared: Mapping[str, tuple[float, ...]]) -> list[Measurement]:
    """Both metrics on one group."""
    losses = _losses(group)
    relative = losses / shared[f"{check.label}.mean_loss"][0]
    left = torch.stack((group.probabilities, group.probabilities - losses), dim=1)
    found = [measurement(check, "half_loss", relative.cpu(), indices=group.indices)]
    for explainer in group.explained:
        maps = group.original(explainer).maps.abs()
        share = maps[..., : maps.shape[-1] // 2].flatten(1).sum(dim=1) / maps.flatten(1).sum(dim=1)
        found.append(
            measurement(
                check,
                "half_relevance",
                (share * relative).cpu(),
                indices=group.indices,
                explainer=explainer.label,
                undefined="the map is zero everywhere",
                curve=((0.0, 0.5), left.cpu()),
                control=explainer in group.controls,
            )
        )
    return found


def _losses(group: ImageGroup) -> Float[Tensor, " image"]:
    """Target probability that each image loses with its left half."""
    left = torch.empty_like(group.probabilities)

    def work(part: slice) -> None:
        halves = group.pixels[part].clone()
        halves[..., : halves.shape[-1] // 2] = 0
        left[part] = group.classifier.target_probability(halves, group.targets[part])

    group.each(len(group), work)
    return group.probabilities - left
'''

REGISTRY_LINES = (
    (
        "contracts/checks/__init__.py",
        "from auditcore.contracts.checks.infidelity import InfidelityCheck\n",
        "from auditcore.contracts.checks.half_loss import HalfLossCheck\n",
    ),
    ("contracts/checks/__init__.py", "    | InfidelityCheck\n", "    | HalfLossCheck\n"),
    ("checks/registry.py", "    infidelity,\n", "    half_loss,\n"),
    (
        "checks/registry.py",
        "from auditcore.contracts.shards import Measurement, SharedSample\n",
        "from auditcore.contracts.checks.half_loss import HalfLossCheck\n",
    ),
    (
        "checks/registry.py",
        "    InfidelityCheck: Implementation(infidelity.compute),\n",
        "    HalfLossCheck: Implementation(half_loss.compute, half_loss.measure_shared, half_loss.reduce_shared),\n",
    ),
)
"""File, the line before which a line goes, the line: a registry entry each and the imports that it needs."""

AUDIT = """
import json, sys
from pathlib import Path

import auditcore, digits
from auditcore.costs.estimate import waves_of
from auditcore.costs.passes import ModelFacts, passes_needed
from auditcore.report.junit import render_junit
from auditcore.report.page.html import render_html
from auditcore.report.reading import read_report
from auditcore_service.cli.documents import documents
from auditcore_service.gateway.catalogue import build_catalogue

asked = json.loads(sys.stdin.read())
folder, images = Path(asked["folder"]), asked["images"]
request = auditcore.AuditRequest.model_validate_json(json.dumps(asked["request"]))
report = auditcore.audit(request, images=digits.encoded(images), access=digits.access(folder), shard_images=2)
stored = auditcore.report_bytes(report)
facts = ModelFacts(shape=digits.PREPROCESSING.shape)
print(json.dumps({
    "report": json.loads(stored),
    "page": render_html(read_report(stored)),
    "junit": render_junit(report),
    "waves": waves_of(report.plan),
    "price": {
        name: [passes.forward, passes.backward]
        for wave in waves_of(report.plan)
        for name, passes in passes_needed(report.plan, wave=wave, images=images, facts=facts).items()
    },
    "catalogue": build_catalogue().model_dump(mode="json", by_alias=True),
    "openapi": json.loads(documents()["openapi.json"]),
}))
"""

IMAGES = 5
"""Two shards of two images and one of one, so that the mean of a shard is not that of the audit."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an audit with the new check gives, from a process whose source tree has it."""
    folder = tmp_path_factory.mktemp("toy")
    tree = with_additions(
        folder,
        {"contracts/checks/half_loss.py": CONTRACT, "checks/half_loss.py": IMPLEMENTATION},
        REGISTRY_LINES,
    )
    condition = {"check": "half_loss", "explainer": "grad_cam", "metric": "half_relevance", "at_least": -100.0}
    request = {
        "model": digits.reference(digits.write_weights(folder)).model_dump(mode="json"),
        "images": {"kind": "batch", "digest": f"sha256:{'0' * 64}"},
        "plan": {
            "seed": 3,
            "explainers": [{"kind": "grad_cam"}, {"kind": "occlusion", "window": 16, "baseline": "mean"}],
            "checks": [{"kind": "half_loss"}],
        },
        "policy": [condition | {"min_images": IMAGES}],
    }
    return answer_of(tree, AUDIT, {"folder": str(folder), "images": IMAGES, "request": request})


def rows(found: dict[str, Any], metric: str) -> dict[str | None, dict[str, Any]]:
    report = found["report"]
    return {row["explainer"]: row for row in (*report["results"], *report["controls"]) if row["metric"] == metric}


def test_its_values_rest_on_the_mean_of_the_whole_audit(found: dict[str, Any]) -> None:
    # from the network itself, without the library
    pixels, _ = digits.digit_pixels()
    pixels = torch.from_numpy(np.round(pixels[:IMAGES].numpy() * 255) / 255).float()
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1) for values in (digits.PREPROCESSING.mean, digits.PREPROCESSING.std)
    )
    halves = pixels.clone()
    halves[..., : digits.SIDE // 2] = 0
    with torch.no_grad():
        whole, left = (digits.trained()((images - mean) / std).softmax(dim=1) for images in (pixels, halves))
    target = whole.argmax(dim=1)[:, None]
    losses = (whole.gather(1, target) - left.gather(1, target))[:, 0]
    expected = (losses / losses.mean()).tolist()
    assert rows(found, "half_loss")[None]["per_image"] == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert len({round(value, 3) for value in expected}) == IMAGES


def test_passes_made_are_passes_priced(found: dict[str, Any]) -> None:
    assert found["waves"] == ["measure", "compute"]
    checks = found["report"]["cost"]["checks"]
    made = {name: [cost["forward_images"], cost["backward_images"]] for name, cost in checks.items()}
    assert made == found["price"]
    assert made["half_loss"] == [IMAGES, 0]
    # the prediction and the image without its left half
    assert made["measure"] == [2 * IMAGES, 0]


def test_the_report_compares_its_fill_with_the_baseline_of_an_explainer(found: dict[str, Any]) -> None:
    assert set(rows(found, "half_relevance")) == {"grad_cam", "occlusion", "random"}
    (warning,) = (one for one in found["report"]["warnings"] if one["code"] == "baseline_differs_from_fill")
    assert (warning["check"], warning["explainer"]) == ("half_loss", "occlusion")
    assert "Set `baseline` of occlusion to `black`" in warning["message"]


def test_the_page_shows_its_heading_column_curve_and_meaning(found: dict[str, Any]) -> None:
    page = found["page"]
    for wanted in (
        "half_relevance",
        "made up for this test",
        # one chart of the check, with a curve of the explainer
        "<title>half_loss</title>",
        "<title>grad_cam</title>",
        "what is left",
        "share of columns removed",
        "Share of absolute relevance in the left half, times half_loss.",
    ):
        assert wanted in page, wanted
    # the summary has a column of the headline metric and none of the other
    heads = re.findall(r"<th[^>]*>(.*?)</th>", page, flags=re.DOTALL)
    assert any("half_relevance" in head for head in heads)


def test_junit_has_its_condition(found: dict[str, Any]) -> None:
    (outcome,) = found["report"]["conditions"]
    # a random map meets it too, so a test case for the verdict is an error
    assert outcome["status"] == "vacuous"
    assert 'tests="2" failures="0" errors="1" skipped="1"' in found["junit"]
    assert "half_relevance" in found["junit"]


def test_catalogue_and_openapi_list_it(found: dict[str, Any]) -> None:
    (entry,) = (one for one in found["catalogue"]["checks"] if one["kind"] == "half_loss")
    assert entry["meaning"] == "Does the map lie on the half of the image that the prediction needs?"
    assert entry["paper"] == "made up for this test"
    assert entry["schema"]["properties"]["fill"]["const"] == "black"
    assert set(found["catalogue"]["metrics"]["half_loss"]) == {"half_loss", "half_relevance"}
    assert "HalfLossCheck" in found["openapi"]["components"]["schemas"]
