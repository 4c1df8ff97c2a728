"""Snapshots in Hugging Face layout, of timm and transformers, from a folder or from the hub's own cache."""

from __future__ import annotations

import hashlib
import inspect
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from auditcore.contracts.access import AccessRules, Limits
from auditcore.contracts.packaged_models import HuggingFaceModel
from auditcore.errors import (
    DigestMismatch,
    InputError,
    InvalidRequest,
    LimitExceeded,
    ModelNotLoadable,
    UnreachableResource,
    UnsafeReference,
)
from auditcore.models.loading import load_classifier
from auditcore.sources.registries.huggingface import WEIGHTS_ELSEWHERE
from auditcore.sources.resolving import resolve_model
from scripted_server import Asked, Reply, Scripted, scripted

COMMIT = "0123456789abcdef0123456789abcdef01234567"
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
FED = {"resize": 32, "crop": 32}
PLAIN = {**FED, "mean": [0, 0, 0], "std": [1, 1, 1]}


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    from transformers import ViTConfig, ViTForImageClassification  # noqa: PLC0415 - seconds of imports

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8,
        num_labels=5,
    )  # fmt: skip
    network = ViTForImageClassification(config).eval()
    folder = tmp_path_factory.mktemp("vit")
    network.save_pretrained(folder)
    sizes = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.4] * 3, "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(sizes))
    return folder, network


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    torch.manual_seed(0)
    network = timm.create_model("resnet10t", pretrained=False, num_classes=4).eval()
    folder = tmp_path_factory.mktemp("resnet")
    safetensors.torch.save_file(network.state_dict(), folder / "model.safetensors")
    own = {"input_size": [3, 48, 48], "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5], "crop_pct": 1.0}
    (folder / "config.json").write_text(
        json.dumps({"architecture": "resnet10t", "num_classes": 4, "pretrained_cfg": own})
    )
    return folder, network


def snapshot(folder: Path, **changes: Any) -> HuggingFaceModel:
    return HuggingFaceModel.model_validate({"uri": folder.as_uri(), **changes})


def access(folder: Path) -> AccessRules:
    return AccessRules(file_roots=(folder,), huggingface_repos=("org/",))


def test_a_transformers_classifier_gives_its_own_logits(vit: tuple[Path, nn.Module]) -> None:
    folder, network = vit
    classifier = load_classifier(snapshot(folder), access=access(folder))
    assert classifier.classes == 5
    assert classifier.preprocessing.mean == (0.5, 0.5, 0.5)
    assert classifier.preprocessing.interpolation == "bicubic"
    with torch.no_grad():
        expected = network(pixel_values=(IMAGES - 0.5) / 0.4).logits
    torch.testing.assert_close(classifier.logits(IMAGES), expected, atol=1e-5, rtol=1e-4)


def test_a_timm_classifier_gives_its_own_logits(resnet: tuple[Path, nn.Module]) -> None:
    folder, network = resnet
    classifier = load_classifier(snapshot(folder), access=access(folder))
    assert (classifier.classes, classifier.shape) == (4, (3, 48, 48))
    assert classifier.preprocessing.mean == (0.1, 0.2, 0.3)
    images = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        expected = network((images - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / 0.5)
    torch.testing.assert_close(classifier.logits(images), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_integer_weights_without_their_scale_are_refused(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = tmp_path / kind
    shutil.copytree(request.getfixturevalue(kind)[0], folder)
    state = safetensors.torch.load_file(folder / "model.safetensors")
    integers = {name: (value * 100).to(torch.int8) if value.ndim > 1 else value for name, value in state.items()}
    safetensors.torch.save_file(integers, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelNotLoadable, match=r"scale is lost.* is int8 instead of float32"):
        load_classifier(snapshot(folder), access=access(folder))


def test_a_snapshot_is_pinned_by_the_files_that_are_read(resnet: tuple[Path, nn.Module], tmp_path: Path) -> None:
    shutil.copytree(resnet[0], tmp_path / "copy")
    resolution = resolve_model(snapshot(tmp_path / "copy"), access(tmp_path))
    pinned = resolution.reference
    assert isinstance(pinned, HuggingFaceModel)
    assert resolution.facts["architecture"] == "resnet10t"
    (tmp_path / "copy" / "README.md").write_text("not read")
    assert resolve_model(snapshot(tmp_path / "copy"), access(tmp_path)).reference == pinned
    config = tmp_path / "copy" / "config.json"
    config.write_text(config.read_text().replace("0.1", "0.2"))
    with pytest.raises(DigestMismatch):
        load_classifier(pinned, access=access(tmp_path))


def test_a_repository_comes_from_the_hubs_cache_at_its_commit(
    resnet: tuple[Path, nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants  # noqa: PLC0415 - an extra

    shutil.copytree(resnet[0], tmp_path / "models--org--name" / "snapshots" / COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    model = HuggingFaceModel(repo="org/name", revision=COMMIT)
    classifier = load_classifier(model, access=access(tmp_path))
    assert classifier.classes == 4
    missing = HuggingFaceModel(repo="org/other", revision=COMMIT)
    with pytest.raises(UnreachableResource, match="cannot be downloaded") as caught:
        load_classifier(missing, access=access(tmp_path))
    assert caught.value.field == "model.repo"
    with pytest.raises(UnsafeReference, match="AUDIT_HUGGINGFACE_REPOS"):
        load_classifier(HuggingFaceModel(repo="else/name", revision=COMMIT), access=access(tmp_path))


def hub(files: dict[str, bytes]) -> Callable[[Asked], Reply]:
    """The hub's own addresses: a repository's files at a commit, and each of them."""

    def answer(asked: Asked) -> Reply:
        if asked.path.startswith("/api/models/org/name/tree/"):
            tree = [{"type": "file", "path": name, "size": len(data), "oid": "0" * 40} for name, data in files.items()]
            return Reply(content=json.dumps(tree).encode(), headers={"Content-Type": "application/json"})
        if asked.path.startswith("/api/models/org/name"):
            siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
            about = {"id": "org/name", "sha": COMMIT, "siblings": siblings}
            return Reply(content=json.dumps(about).encode(), headers={"Content-Type": "application/json"})
        _, _, name = asked.path.partition(f"/org/name/resolve/{COMMIT}/")
        if name not in files:
            return Reply(404, b"", {"X-Error-Code": "EntryNotFound"})
        tags = {"ETag": f'"{hashlib.sha256(files[name]).hexdigest()}"', "X-Repo-Commit": COMMIT}
        if asked.method == "HEAD":
            return Reply(content=b"", headers={**tags, "Content-Length": str(len(files[name]))})
        return Reply(content=files[name], headers=tags)

    return answer


@pytest.fixture
def hub_files(resnet: tuple[Path, nn.Module]) -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in resnet[0].iterdir()}
    return {**files, "onnx/model.safetensors": b"for others", "pytorch_model.bin": b"a pickle", "README.md": b"words"}


@contextmanager
def reached(server: Scripted, cache: Path) -> Iterator[None]:
    """The hub's client, asking this server."""
    from huggingface_hub import constants  # noqa: PLC0415 - an extra

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "ENDPOINT", server.url)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}")
        yield


def test_of_a_repository_only_what_is_read_is_downloaded_and_once(hub_files: dict[str, bytes], tmp_path: Path) -> None:
    model = HuggingFaceModel(repo="org/name", revision=COMMIT)
    with scripted(hub(hub_files)) as server, reached(server, tmp_path):
        pinned = resolve_model(model, access(tmp_path)).reference
        fetched = {asked.path.rpartition("/")[2] for asked in server.asked if asked.method == "GET"}
        assert {"config.json", "model.safetensors"} <= fetched
        assert not any("onnx" in asked.path or ".bin" in asked.path or "README" in asked.path for asked in server.asked)
        before = len(server.asked)
        assert load_classifier(pinned, access=access(tmp_path)).classes == 4
        assert not any("safetensors" in asked.path for asked in server.asked[before:] if asked.method == "GET")
    assert isinstance(pinned, HuggingFaceModel)
    assert pinned.sha256 is not None


def test_a_repository_that_is_too_large_is_not_downloaded(hub_files: dict[str, bytes], tmp_path: Path) -> None:
    small = access(tmp_path).model_copy(update={"limits": Limits(weights_bytes=1000)})
    with scripted(hub(hub_files)) as server, reached(server, tmp_path):
        with pytest.raises(LimitExceeded, match="bytes") as caught:
            resolve_model(HuggingFaceModel(repo="org/name", revision=COMMIT), small)
        assert not any("safetensors" in asked.path for asked in server.asked if asked.method == "GET")
    assert caught.value.field == "model.repo"


def test_the_files_with_the_weights_are_found(resnet: tuple[Path, nn.Module], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(resnet[0], folder)
    shutil.copy(folder / "model.safetensors", folder / "model.fp16.safetensors")
    assert load_classifier(snapshot(folder), access=access(tmp_path)).classes == 4
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    with pytest.raises(ModelNotLoadable, match="2 safetensors files"):
        load_classifier(snapshot(folder), access=access(tmp_path))
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"conv1.0.weight": "other.safetensors"}}))
    assert load_classifier(snapshot(folder), access=access(tmp_path)).classes == 4
    index.write_text(json.dumps({"weight_map": {"conv1.0.weight": "../other.safetensors"}}))
    with pytest.raises(ModelNotLoadable, match="which is not there"):
        load_classifier(snapshot(folder), access=access(tmp_path))


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    ("change", "kind", "match"),
    [
        (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), ModelNotLoadable, "no safetensors"),
        (lambda f: (f / "config.json").unlink(), ModelNotLoadable, "has no config.json"),
        (lambda f: (f / "config.json").write_text("{"), ModelNotLoadable, "not JSON"),
        (lambda f: change_config(f, auto_map={"AutoModel": "x.Y"}), UnsafeReference, "code of the repository"),
        (lambda f: change_config(f, architecture="resnet0"), ModelNotLoadable, "timm cannot build"),
        (lambda f: change_config(f, num_classes=7), ModelNotLoadable, "do not fit"),
        (lambda f: change_config(f, pretrained_cfg={"crop_style": "x"}), ModelNotLoadable, "'crop_style'"),
        (lambda f: change_config(f, pretrained_cfg=[3]), ModelNotLoadable, "timm cannot build"),
        (lambda f: (f / "model.safetensors").write_bytes(LFS), ModelNotLoadable, "pointer of Git LFS"),
        (lambda f: (f / "model.safetensors").write_bytes(bytes(9)), ModelNotLoadable, "safetensors file is damaged"),
    ],
)
def test_snapshots_that_cannot_be_loaded_have_a_reason(
    resnet: tuple[Path, nn.Module], tmp_path: Path, change: Any, kind: type[InputError], match: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(resnet[0], folder)
    change(folder)
    with pytest.raises(kind, match=match) as caught:
        load_classifier(snapshot(folder), access=access(tmp_path))
    assert caught.value.field == "model.uri"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"do_crop_margin": True, "size": {"height": 32, "width": 32}}, "the key 'do_crop_margin'"),
        ({"do_pad": True, "size": {"height": 32, "width": 32}}, "the key 'do_pad'"),
        ({"size": {"longest_edge": 32}}, "does not say what the model sees"),
        ({}, "missing or does not say"),
    ],
)
def test_preprocessing_that_is_not_understood_must_be_given(
    vit: tuple[Path, nn.Module], tmp_path: Path, config: dict[str, Any], said: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(vit[0], folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidRequest, match=said) as caught:
        load_classifier(snapshot(folder), access=access(tmp_path))
    assert caught.value.field == "model.preprocessing"
    assert load_classifier(snapshot(folder, preprocessing=FED), access=access(tmp_path)).shape == (3, 32, 32)


def test_the_processor_of_images_and_text_may_hold_the_one_of_images(
    vit: tuple[Path, nn.Module], tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(vit[0], folder)
    alone = resolve_model(snapshot(folder), access(tmp_path)).reference
    combined = folder / "processor_config.json"
    combined.write_text(json.dumps({"processor_class": "CLIPProcessor"}))
    assert resolve_model(snapshot(folder), access(tmp_path)).reference == alone
    own = json.loads((folder / "preprocessor_config.json").read_text())
    combined.write_text(json.dumps({"image_processor": {**own, "image_mean": [0.1] * 3}}))
    pinned = resolve_model(snapshot(folder), access(tmp_path)).reference
    assert pinned != alone
    assert load_classifier(pinned, access=access(tmp_path)).preprocessing.mean == (0.1,) * 3
    (folder / "preprocessor_config.json").unlink()
    assert load_classifier(snapshot(folder), access=access(tmp_path)).preprocessing.mean == (0.1,) * 3


def test_a_config_of_earlier_versions_of_timm_is_read_in_full(resnet: tuple[Path, nn.Module], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(resnet[0], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config.pop("pretrained_cfg"), **config, "num_features": 512}))
    found, expected = (load_classifier(snapshot(one), access=access(one)) for one in (folder, resnet[0]))
    assert found.preprocessing == expected.preprocessing
    assert found.digest == expected.digest


def test_a_classifier_with_a_teacher_is_a_classifier(tmp_path: Path) -> None:
    from transformers import DeiTConfig, DeiTForImageClassificationWithTeacher  # noqa: PLC0415 - seconds of imports

    config = DeiTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8,
        num_labels=5,
    )  # fmt: skip
    network = DeiTForImageClassificationWithTeacher(config).eval()
    network.save_pretrained(tmp_path)
    classifier = load_classifier(snapshot(tmp_path, preprocessing=PLAIN), access=access(tmp_path))
    with torch.no_grad():
        expected = network(pixel_values=IMAGES).logits
    torch.testing.assert_close(classifier.logits(IMAGES), expected, atol=1e-5, rtol=1e-4)


def test_another_model_than_a_classifier_is_refused(vit: tuple[Path, nn.Module], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(vit[0], folder)
    change_config(folder, architectures=["ViTModel"])
    with pytest.raises(ModelNotLoadable, match="not an image classifier"):
        load_classifier(snapshot(folder, preprocessing=FED), access=access(tmp_path))


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """What Python opens or resolves while a test runs, of files called `secret` and of hosts."""
    OPENED.clear()
    WATCHING.append(True)
    yield OPENED
    WATCHING.clear()


OPENED: list[str] = []
WATCHING: list[bool] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if WATCHING and (event == "socket.getaddrinfo" or (event == "open" and "secret" in str(arguments[0]))):
        OPENED.append(f"{event} {arguments[0]}")


# cannot be taken back, so there is one for all tests
sys.addaudithook(_watch)

WRAPPED = {"architectures": ["TimmWrapperForImageClassification"], "model_type": "timm_wrapper", "num_classes": 4}
TIMM = {"architecture": "resnet10t", "num_classes": 4}


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (TIMM | {"model_args": {"checkpoint_path": "SECRET"}}, "checkpoint_path"),
        (TIMM | {"model_args": {"cache_dir": "SECRET"}}, "cache_dir"),
        (TIMM | {"model_args": {"pretrained": True}}, "pretrained"),
        (TIMM | {"model_args": {"pretrained_cfg_overlay": {"file": "SECRET"}}}, "pretrained_cfg_overlay"),
        ({"architecture": "local-dir:FOLDER"}, "architecture"),
        ({"architecture": "hf-hub:org/name"}, "architecture"),
        (WRAPPED | {"model_args": {"checkpoint_path": "SECRET"}}, "checkpoint_path"),
        (WRAPPED | {"transformers_weights": "../secret.safetensors"}, "transformers_weights"),
        (WRAPPED | {"sub": [{"auto_map": {"AutoModel": "org/other--x.Y"}}]}, "auto_map"),
        (WRAPPED | {"backbone_config": {"backbone": "hf-hub:org/name"}}, "backbone"),
        (WRAPPED | {"backbone_config": {"use_pretrained_backbone": True}}, "use_pretrained_backbone"),
    ],
)
def test_a_config_names_no_file_and_no_other_repository(
    resnet: tuple[Path, nn.Module], tmp_path: Path, config: dict[str, Any], key: str, opened: list[str]
) -> None:
    folder, elsewhere = tmp_path / "snapshot", tmp_path / "secret"
    shutil.copytree(resnet[0], folder)
    elsewhere.mkdir()
    torch.save(timm.create_model("resnet10t", num_classes=4).state_dict(), elsewhere / "secret.pth")
    (elsewhere / "config.json").write_text(json.dumps(TIMM))
    opened.clear()
    text = json.dumps(config).replace("SECRET", str(elsewhere / "secret.pth")).replace("FOLDER", str(elsewhere))
    (folder / "config.json").write_text(text)
    with pytest.raises(UnsafeReference, match=key) as caught:
        load_classifier(snapshot(folder, preprocessing=FED), access=access(folder))
    assert caught.value.field == "model.uri"
    assert opened == []


def test_every_option_of_timm_that_is_not_the_models_own_was_looked_at() -> None:
    """A later timm may have another way to name a file."""
    options = set(inspect.signature(timm.create_model).parameters)
    harmless = {"model_name", "pretrained_cfg", "scriptable", "exportable", "no_jit", "kwargs"}
    assert options - harmless <= WEIGHTS_ELSEWHERE


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_a_link_in_a_snapshot_does_not_lead_out_of_the_allowed_folders(
    vit: tuple[Path, nn.Module], tmp_path: Path, name: str
) -> None:
    folder, outside = tmp_path / "allowed" / "snapshot", tmp_path / "outside"
    shutil.copytree(vit[0], folder)
    outside.mkdir()
    (folder / name).rename(outside / name)
    (folder / name).symlink_to(outside / name)
    with pytest.raises(UnsafeReference, match="AUDIT_FILE_ROOTS"):
        load_classifier(snapshot(folder), access=access(tmp_path / "allowed"))
    # as in the cache of the hub's client, where it points to a file next to the folder
    assert load_classifier(snapshot(folder), access=access(tmp_path)).classes == 5


def test_transformers_sees_the_files_of_the_digest_and_no_others(
    vit: tuple[Path, nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With peft installed it would follow an adapter_config.json to the model that this names."""
    from transformers import AutoModelForImageClassification  # noqa: PLC0415 - seconds of imports

    folder = tmp_path / "snapshot"
    shutil.copytree(vit[0], folder)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/other"}))
    seen: list[set[str]] = []
    build = AutoModelForImageClassification.from_pretrained

    def from_pretrained(given: Path, **options: Any) -> Any:
        seen.append({path.name for path in given.iterdir()})
        return build(given, **options)

    monkeypatch.setattr(AutoModelForImageClassification, "from_pretrained", from_pretrained)
    assert load_classifier(snapshot(folder), access=access(folder)).classes == 5
    assert seen == [{"config.json", "preprocessor_config.json", "model.safetensors"}]
