"""Peak memory of one audit in a fresh process: `python -m benchmarks.memory_of_images MODEL IMAGES DEVICE`."""

from __future__ import annotations

import json
import sys

from auditcore.auditing import SHARD_IMAGES
from auditcore.contracts.checks import EddaCheck
from auditcore.contracts.explainers import Gradient
from auditcore.contracts.plan import AuditPlan
from auditcore.devices.allocator import keep_freed_memory
from benchmarks import ours
from benchmarks.ideal import Passes
from benchmarks.subjects import load, photos

PLAN = AuditPlan(explainers=(Gradient(),), checks=(EddaCheck(keep=(0.15,)),))
"""Few passes an image, so that many images are cheap."""


def main() -> None:
    """Audit in shards, each with its own files as in a worker, and print the peak as JSON."""
    model, images, device = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    keep_freed_memory()
    classifier = load(model, device)
    seconds, made, peak = 0.0, Passes(0, 0), 0
    for first in range(0, images, SHARD_IMAGES):
        run = ours.run(classifier, PLAN, photos(min(SHARD_IMAGES, images - first), first=first))
        seconds, made, peak = seconds + run.seconds, made + run.made, max(peak, run.peak.highest_bytes)
    found = {
        "images": images,
        "seconds": seconds,
        "forward": made.forward,
        "backward": made.backward,
        "peak_memory_bytes": peak,
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
