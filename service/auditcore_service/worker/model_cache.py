"""The last few models a worker loaded, so that the shards of an audit load theirs once."""

from __future__ import annotations

import gc
from collections import OrderedDict
from typing import final

from auditcore.contracts.access import AccessRules
from auditcore.contracts.model_reference import ModelReference, ServedModel
from auditcore.costs.cost_model import model_identity
from auditcore.models.classifier import Classifier
from auditcore.models.loading import load_classifier
from auditcore.sources.fetching import BlobReader
from auditcore.sources.registry import check_model


@final
class ModelCache:
    """Least recently used models, by what their reference stands for.

    References that pin the same bytes share one model, wherever the bytes lie. A file behind an unpinned reference may
    change; its models then differ in digest, and the report refuses to mix them. A model behind a server is kept for
    one audit: the next may find another one there, of which the server says nothing, and to load it costs few requests.
    """

    def __init__(self, *, size: int, device: str, access: AccessRules, blobs: BlobReader) -> None:
        self._size = size
        self._device = device
        self._access = access
        self._blobs = blobs
        self._models: OrderedDict[tuple[str, str], Classifier] = OrderedDict()

    def get(self, reference: ModelReference, *, purpose: str) -> Classifier:
        """The model of a reference, loaded if it is not at hand.

        Args:
            reference: Of the model.
            purpose: What it is wanted for, such as the audit's id.

        Raises:
            InputError: It cannot be loaded.
        """
        # one that is at hand was loaded under another request, perhaps from another place
        check_model(reference, self._access)
        key = (model_identity(reference), purpose if isinstance(reference, ServedModel) else "")
        if key in self._models:
            self._models.move_to_end(key)
            return self._models[key]
        if len(self._models) >= self._size:
            # make room first: two large models need not fit into memory together with a third
            while len(self._models) >= self._size:
                self._models.popitem(last=False)
            # folded and canonical copies are in cycles, each as large as the model
            gc.collect()
        self._models[key] = load_classifier(reference, access=self._access, device=self._device, blobs=self._blobs)
        return self._models[key]
