"""Models stay loaded: across shards, audits and ways to name the same bytes; the one not used longest goes first."""

from __future__ import annotations

import gc
import hashlib
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torchvision
from safetensors.torch import save_file

from auditcore.contracts.access import AccessRules
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.models import TorchvisionModel
from auditcore.errors import UnsafeReference
from auditcore.models.classifier import Classifier
from auditcore.models.loading import load_classifier
from auditcore_service.store.blobs import BlobStore
from auditcore_service.worker import model_cache
from auditcore_service.worker.model_cache import ModelCache


@pytest.fixture
def make_cache(tmp_path: Path) -> Callable[..., ModelCache]:
    def make(size: int = 2) -> ModelCache:
        access = AccessRules(file_roots=(tmp_path / "models",))
        return ModelCache(size=size, device="cpu", access=access)

    return make


def load(cache: ModelCache, model: ModelReference, purpose: str = "an audit", *, together: int = 1) -> Classifier:
    return cache.get(model, purpose=purpose, blobs=no_blobs, together=together)


def no_blobs(digest: str) -> bytes:
    msg = f"nothing here is read from a store, got {digest}"
    raise AssertionError(msg)


def reference(uri: str, sha256: str | None = None) -> TorchvisionModel:
    return TorchvisionModel.model_validate(
        {
            "name": "mobilenet_v3_small",
            "weights": {"uri": uri, "sha256": sha256},
            "classes": 5,
            "preprocessing": {"resize": 32, "crop": 32},
        }
    )


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, str]:
    """Weights in a folder that may be read, and their digest."""
    folder = tmp_path / "models"
    folder.mkdir()
    path = folder / "model.safetensors"
    save_file(torchvision.models.mobilenet_v3_small(weights=None, num_classes=5).state_dict(), path)
    return path, f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_a_model_is_loaded_once(make_cache: Callable[..., ModelCache]) -> None:
    cache = make_cache()
    assert load(cache, reference("random:1")) is load(cache, reference("random:1"), "another audit")
    assert load(cache, reference("random:1")) is not load(cache, reference("random:2"))


def test_models_that_a_shard_needs_together_stay_in_a_smaller_cache(make_cache: Callable[..., ModelCache]) -> None:
    cache = make_cache(1)
    pair = [reference("random:1"), reference("random:2")]
    first, second = ([load(cache, model, together=2) for model in pair] for _ in range(2))
    assert all(one is other for one, other in zip(first, second, strict=True))
    load(cache, pair[0])
    load(cache, reference("random:3"))
    assert load(cache, pair[0]) is not first[0]


def test_an_evicted_model_frees_its_memory_before_the_next_is_loaded(
    make_cache: Callable[..., ModelCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies of it, folded and canonical, are in cycles, which Python may leave lying for hours."""
    cache = make_cache(size=1)
    folded = weakref.ref(load(cache, reference("random:1")).folded)
    alive = []

    def loading(*arguments: Any, **options: Any) -> Classifier:
        alive.append(folded())
        return load_classifier(*arguments, **options)

    monkeypatch.setattr(model_cache, "load_classifier", loading)
    gc.disable()
    try:
        load(cache, reference("random:2"))
    finally:
        gc.enable()
    assert alive == [None]


def test_the_model_not_used_longest_goes_first(make_cache: Callable[..., ModelCache]) -> None:
    cache = make_cache(size=2)
    first, second = load(cache, reference("random:1")), load(cache, reference("random:2"))
    assert load(cache, reference("random:1")) is first
    load(cache, reference("random:3"))
    assert load(cache, reference("random:1")) is first
    assert load(cache, reference("random:2")) is not second


def test_pinned_bytes_are_one_model_at_any_location(
    make_cache: Callable[..., ModelCache], stored: tuple[Path, str], tmp_path: Path
) -> None:
    path, digest = stored
    BlobStore(f"file://{tmp_path}/blobs").put(path.read_bytes())
    copy = path.with_name("copy.safetensors")
    copy.write_bytes(path.read_bytes())
    cache = make_cache()
    model = load(cache, reference(path.as_uri(), digest))
    assert load(cache, reference(copy.as_uri(), digest)) is model
    assert load(cache, reference(f"blob:{digest}")) is model
    # nothing says that an unpinned file holds these bytes
    assert load(cache, reference(path.as_uri())) is not model


def test_a_cached_model_is_not_lent_to_a_forbidden_reference(
    make_cache: Callable[..., ModelCache], stored: tuple[Path, str]
) -> None:
    path, digest = stored
    cache = make_cache()
    load(cache, reference(path.as_uri(), digest))
    with pytest.raises(UnsafeReference):
        load(cache, reference("file:///etc/passwd", digest))
