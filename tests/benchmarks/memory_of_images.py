"""Peak memory of one audit in a fresh process: `python -m benchmarks.memory_of_images MODEL IMAGES DEVICE`."""

from __future__ import annotations

import json
import sys

import torch

from auditcore.contracts.checks import EddaCheck
from auditcore.contracts.explainers import Gradient
from auditcore.contracts.plan import AuditPlan
from benchmarks import ours
from benchmarks.memory import process_peak_bytes
from benchmarks.subjects import load, photos

PLAN = AuditPlan(explainers=(Gradient(),), checks=(EddaCheck(keep=(0.15,)),))
"""Few passes an image, so that many images are cheap."""


def main() -> None:
    """Audit, and print the peak as JSON."""
    model, images, device = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    classifier = load(model, device)
    run = ours.run(classifier, PLAN, photos(images))
    cuda = classifier.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(classifier.device) if cuda else process_peak_bytes()
    found = {
        "images": images,
        "seconds": run.seconds,
        "forward": run.made.forward,
        "backward": run.made.backward,
        "peak_memory_bytes": peak,
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
