"""What decoding photos costs: it is part of an audit and runs on the CPU."""

from __future__ import annotations

import time
from collections.abc import Sequence

from auditcore.contracts.access import Limits
from auditcore.images.batch import decode_batch
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier


def decoding_seconds(classifier: Classifier, photos: Sequence[EncodedImage]) -> float:
    """Seconds per photo, over all of those given; the first round only starts the threads."""
    for _ in range(2):
        started = time.perf_counter()
        decode_batch(photos, classifier.preprocessing, Limits())
        seconds = time.perf_counter() - started
    return seconds / len(photos)
