"""A cache of the last few loaded models, so that the shards of an audit load a model once."""

from __future__ import annotations

import gc
from collections import OrderedDict
from typing import final

from auditcore.contracts.access import AccessRules
from auditcore.contracts.model_reference import ModelReference, ServedModel
from auditcore.costs.cost_model import model_identity
from auditcore.models.classifier import Classifier
from auditcore.models.loaders.registry import load_classifier
from auditcore.sources.fetching import BlobReader


@final
class ModelCache:
    """An LRU cache of models, by the identity of their reference.

    References that pin the same bytes share one model, regardless of their location. A file behind an unpinned
    reference may change; its models then differ in digest, and the report refuses to mix them. A model behind a server
    is kept for only one audit, because the server may serve a different model at the next one without notice, and
    loading it takes only a few requests.
    """

    def __init__(self, *, size: int, device: str, access: AccessRules, blobs: BlobReader) -> None:
        self._size = size
        self._device = device
        self._access = access
        self._blobs = blobs
        self._models: OrderedDict[tuple[str, str], Classifier] = OrderedDict()

    def get(self, reference: ModelReference, *, purpose: str) -> Classifier:
        """Return the model of a reference, and load it if it is not cached.

        Args:
            reference: Reference of the model.
            purpose: Purpose of the model, such as the audit's id.

        Raises:
            InputError: The model cannot be loaded.
        """
        # a cached model was loaded for another request, possibly from another location
        self._access.check_model(reference)
        key = (model_identity(reference), purpose if isinstance(reference, ServedModel) else "")
        if key in self._models:
            self._models.move_to_end(key)
            return self._models[key]
        if len(self._models) >= self._size:
            # make room first: two large models need not fit into memory together with a third
            while len(self._models) >= self._size:
                self._models.popitem(last=False)
            # folded and canonical copies are in reference cycles, and each is as large as the model
            gc.collect()
        self._models[key] = load_classifier(reference, access=self._access, device=self._device, blobs=self._blobs)
        return self._models[key]
