"""TorchServe archives: ours always load, others by an architecture, code only where allowed, hostile ones never."""

from __future__ import annotations

import inspect
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import digits
from auditcore.contracts.access import AccessRules
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.models import DemoModel
from auditcore.contracts.packaged_models import MarModel
from auditcore.errors import InputError, InvalidRequest, LimitExceeded, ModelNotLoadable, UnsafeReference
from auditcore.models.archive_writing import write_archive
from auditcore.models.archives import Archive
from auditcore.models.classifier import Classifier
from auditcore.models.loading import load_classifier
from auditcore.sources.resolving import resolve_model

ARCHITECTURE = {"kind": "factory", "target": "digits:build"}
FED = digits.PREPROCESSING.model_dump()


def reference(path: Path, **changes: Any) -> MarModel:
    return MarModel.model_validate({"uri": path.as_uri(), **changes})


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ours")
    model = digits.reference(digits.write_weights(folder))
    write_archive(folder / "digits.mar", name="digits", version="1.0", model=model, access=digits.access(folder))
    return folder / "digits.mar"


def archived(folder: Path, serialized: Path, *more: str) -> Path:
    """What torch-model-archiver makes of a file of weights."""
    command = [
        str(Path(sys.executable).with_name("torch-model-archiver")),
        *("--model-name", "theirs", "--version", "1.0", "--serialized-file", str(serialized)),
        *("--handler", "image_classifier", "--export-path", str(folder), "--force", *more),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "theirs.mar"


def logits(classifier: Classifier) -> torch.Tensor:
    return classifier.logits(digits.digit_pixels()[0][:4])


def test_our_archives_describe_themselves(ours: Path, digit_classifier: Classifier) -> None:
    classifier = load_classifier(reference(ours), access=digits.access(ours.parent))
    torch.testing.assert_close(logits(classifier), logits(digit_classifier))
    assert classifier.digest == digit_classifier.digest
    assert classifier.preprocessing == digits.PREPROCESSING


def test_the_same_model_gives_the_same_archive(ours: Path, tmp_path: Path) -> None:
    model = digits.reference(digits.write_weights(tmp_path))
    write_archive(tmp_path / "again.mar", name="digits", version="1.0", model=model, access=digits.access(tmp_path))
    assert sha256((tmp_path / "again.mar").read_bytes()) == sha256(ours.read_bytes())


def test_the_demo_model_is_archived_without_any_permission(tmp_path: Path) -> None:
    write_archive(tmp_path / "demo.mar", name="demo", version="1", model=DemoModel(), access=AccessRules())
    access = AccessRules(file_roots=(tmp_path,))
    archive = Archive(tmp_path / "demo.mar", limit_bytes=2**30)
    assert archive.description is not None
    assert load_classifier(reference(tmp_path / "demo.mar"), access=access).classes == 1000


def test_a_factory_of_our_archive_is_still_the_operators_choice(ours: Path) -> None:
    with pytest.raises(UnsafeReference, match="AUDIT_FACTORIES"):
        load_classifier(reference(ours), access=AccessRules(file_roots=(ours.parent,)))


def test_an_archive_is_pinned_by_its_bytes(ours: Path) -> None:
    pinned = resolve_model(reference(ours), digits.access(ours.parent)).reference
    assert isinstance(pinned, MarModel)
    assert pinned.sha256 == sha256(ours.read_bytes())


@pytest.mark.parametrize("save", ["module", "state"])
def test_theirs_load_into_an_architecture_without_running_code(
    tmp_path: Path, save: str, digit_classifier: Classifier
) -> None:
    weights = tmp_path / "weights.pth"
    torch.save(digits.trained() if save == "module" else digits.trained().state_dict(), weights)
    path = archived(tmp_path, weights)
    model = reference(path, architecture=ARCHITECTURE, preprocessing=FED)
    torch.testing.assert_close(logits(load_classifier(model, access=digits.access(tmp_path))), logits(digit_classifier))


def test_without_an_architecture_code_needs_the_operators_word(tmp_path: Path, digit_classifier: Classifier) -> None:
    weights, code = tmp_path / "weights.pth", tmp_path / "model.py"
    torch.save(digits.trained().state_dict(), weights)
    code.write_text("import torch\nfrom torch import Tensor, nn\n\n\n" + inspect.getsource(digits.DigitNet))
    path = archived(tmp_path, weights, "--model-file", str(code))
    access = digits.access(tmp_path)
    with pytest.raises(UnsafeReference, match="AUDIT_CODE_DIGESTS") as caught:
        load_classifier(reference(path, preprocessing=FED), access=access)
    assert caught.value.field == "model.architecture"
    allowed = access.model_copy(update={"code_digests": (sha256(path.read_bytes()),)})
    classifier = load_classifier(reference(path, preprocessing=FED), access=allowed)
    torch.testing.assert_close(logits(classifier), logits(digit_classifier))


def test_a_torchscript_archive_runs_only_if_it_is_allowed(tmp_path: Path, digit_classifier: Classifier) -> None:
    script = tmp_path / "script.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(digits.trained(), torch.zeros(1, 3, 32, 32)), script)
    path = archived(tmp_path, script)
    access = digits.access(tmp_path)
    with pytest.raises(UnsafeReference, match="AUDIT_CODE_DIGESTS"):
        load_classifier(reference(path, preprocessing=FED), access=access)
    with pytest.raises(UnsafeReference, match="TorchScript program"):
        load_classifier(reference(path, preprocessing=FED, architecture=ARCHITECTURE), access=access)
    allowed = access.model_copy(update={"code_digests": (sha256(path.read_bytes()),)})
    classifier = load_classifier(reference(path, preprocessing=FED), access=allowed)
    torch.testing.assert_close(logits(classifier), logits(digit_classifier), atol=1e-5, rtol=1e-5)


def test_photos_of_others_need_preprocessing(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    torch.save(digits.trained().state_dict(), weights)
    with pytest.raises(InvalidRequest) as caught:
        load_classifier(
            reference(archived(tmp_path, weights), architecture=ARCHITECTURE), access=digits.access(tmp_path)
        )
    assert caught.value.field == "model.preprocessing"


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    torch.save(digits.trained().state_dict(), weights)
    wrong = {"kind": "torchvision", "name": "resnet18"}
    with pytest.raises(ModelNotLoadable, match="do not fit the architecture") as caught:
        load_classifier(
            reference(archived(tmp_path, weights), architecture=wrong, preprocessing=FED),
            access=digits.access(tmp_path),
        )
    assert caught.value.field == "model.uri"


# --- hostile ---------------------------------------------------------------------------------------


def entry(name: str, *, mode: int = 0, encrypted: bool = False) -> zipfile.ZipInfo:
    found = zipfile.ZipInfo(name)
    found.external_attr = mode << 16
    found.flag_bits |= 0x1 if encrypted else 0
    return found


HOSTILE: dict[str, tuple[Callable[[zipfile.ZipFile], None], type[InputError], str]] = {
    "up": (lambda z: z.writestr(entry("../../evil.py"), "x"), UnsafeReference, "outside the archive"),
    "absolute": (lambda z: z.writestr(entry("/etc/evil"), "x"), UnsafeReference, "outside the archive"),
    "backslash": (lambda z: z.writestr(entry("..\\evil"), "x"), UnsafeReference, "outside the archive"),
    "drive": (lambda z: z.writestr(entry("C:/evil"), "x"), UnsafeReference, "outside the archive"),
    "link": (lambda z: z.writestr(entry("link", mode=0o120777), "/etc/passwd"), UnsafeReference, "is a link"),
    "twice": (lambda z: z.writestr(entry("WEIGHTS.safetensors"), "x"), UnsafeReference, "occurs twice"),
    "large": (lambda z: z.writestr(entry("large"), bytes(300_000)), LimitExceeded, "bytes"),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_archives_are_refused_and_nothing_is_written(attack: str, ours: Path, tmp_path: Path) -> None:
    add, kind, match = HOSTILE[attack]
    path = tmp_path / "inside" / "hostile.mar"
    path.parent.mkdir()
    path.write_bytes(ours.read_bytes())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        add(archive)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(kind, match=match) as caught:
        Archive(path, limit_bytes=200_000)
    assert caught.value.field == "model.uri"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({}, "has no MAR-INF"),
        ({"MAR-INF/MANIFEST.json": "{"}, "is invalid"),
        ({"MAR-INF/MANIFEST.json": "{}"}, "model"),
    ],
)
def test_other_files_are_not_archives(tmp_path: Path, content: dict[str, str], match: str) -> None:
    path = tmp_path / "other.mar"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    with pytest.raises(ModelNotLoadable, match=match):
        Archive(path, limit_bytes=2**20)
    path.write_bytes(b"no zip")
    with pytest.raises(ModelNotLoadable, match="not a model archive"):
        Archive(path, limit_bytes=2**20)
