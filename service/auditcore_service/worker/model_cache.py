"""The last few models that a worker has loaded, so that the shards of an audit load each model once."""

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
from auditcore_service.principals import DEFAULT_TENANT


@final
class ModelCache:
    """Models by what their reference stands for; the least recently used one goes first.

    A model belongs to the tenant that it was loaded for. References that pin the same bytes share one model, wherever
    the bytes are stored. A file behind an unpinned reference may change; its models then differ in digest, and the
    report refuses to mix them. A model behind a server is kept for one audit: the server may replace it without saying
    so, and loading it again costs few requests.
    """

    def __init__(self, *, size: int, device: str, access: AccessRules) -> None:
        self._size = size
        self._device = device
        self._access = access
        self._models: OrderedDict[tuple[str, str, str], Classifier] = OrderedDict()

    def get(
        self,
        reference: ModelReference,
        *,
        purpose: str,
        blobs: BlobReader,
        tenant: str = DEFAULT_TENANT,
        together: int = 1,
    ) -> Classifier:
        """The model of a reference, loaded if it is not in the cache.

        Args:
            reference: Of the model.
            purpose: What the model is used for, such as the id of the audit.
            blobs: Reads uploaded weights of the tenant.
            tenant: Whose model it is.
            together: How many models a shard needs at once; as many stay in memory, whatever the size of the cache.

        Raises:
            InputError: The model cannot be loaded.
        """
        # a cached model was loaded for another request, perhaps from another place
        check_model(reference, self._access)
        key = (tenant, model_identity(reference), purpose if isinstance(reference, ServedModel) else "")
        if key in self._models:
            self._models.move_to_end(key)
            return self._models[key]
        size = max(self._size, together)
        if len(self._models) >= size:
            # make room first, so that three large models need not fit into memory at once
            while len(self._models) >= size:
                self._models.popitem(last=False)
            # folded and canonical copies are in reference cycles, and each is as large as the model
            gc.collect()
        self._models[key] = load_classifier(reference, access=self._access, device=self._device, blobs=blobs)
        return self._models[key]
