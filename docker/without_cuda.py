"""Lets the ordinary torch of a package registry run on a CPU without the libraries of CUDA, which are 3 GB.

    python without_cuda.py SITE_PACKAGES

torch's libraries name those of CUDA as needed, so that the loader refuses to load one without the others. On a CPU none
of them is called: torch asks CUDA's runtime, which stays, how many GPUs there are, and the answer is none. For each
library that is missing, this puts one of the same name beside torch's own. Its functions are those that torch names,
and each only returns an error. It needs a C compiler and readelf.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

CUDA = re.compile(r"lib(cu|nccl|nv)")
"""Names of CUDA's libraries."""

# libcuda and libnvidia-ml come with the driver, are missing wherever there is no GPU, and torch does without them
OF_THE_DRIVER = frozenset({"libcuda.so.1", "libnvidia-ml.so.1"})

COLUMNS = 8
"""Of a symbol that has a name, as readelf lists it."""

FAILED = 1
"""What the functions return: 0 is success in every library of CUDA."""


def needed(library: Path) -> set[str]:
    """Names of the libraries that the loader looks for when it loads this one."""
    listed = subprocess.run(["readelf", "--dynamic", library], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"\(NEEDED\).*\[(.+)\]", listed))


def versions(library: Path) -> dict[str, str]:
    """For each version of symbols that a library asks for, the library that has to define it."""
    listed = subprocess.run(
        ["readelf", "--version-info", "--wide", library], capture_output=True, text=True, check=True
    ).stdout
    found: dict[str, str] = {}
    file = ""
    for line in listed.splitlines():
        if (heading := re.search(r"Version: \d+ +File: (\S+) +Cnt:", line)) is not None:
            file = heading[1]
        elif file and (entry := re.search(r"Name: (\S+) +Flags:", line)) is not None:
            found[entry[1]] = file
    return found


def symbols(library: Path) -> tuple[set[str], set[tuple[str, str]]]:
    """Names that a library defines, and names with their versions that others have to define for it."""
    listed = subprocess.run(
        ["readelf", "--dyn-syms", "--wide", library], capture_output=True, text=True, check=True
    ).stdout
    defined: set[str] = set()
    undefined: set[tuple[str, str]] = set()
    for line in listed.splitlines():
        words = line.split()
        if len(words) < COLUMNS or not words[0].rstrip(":").isdigit() or words[4] not in {"GLOBAL", "WEAK", "UNIQUE"}:
            continue
        name, _, version = words[7].partition("@")
        if words[6] != "UND":
            defined.add(name)
        elif words[4] == "GLOBAL" and re.match(r"(cu|nccl|nv)", name):
            undefined.add((name, version.lstrip("@")))
    return defined, undefined


def build(library: Path, functions: dict[str, list[str]]) -> None:
    """Compile a library of functions, given by version; those without a version are under the empty one."""
    names = [name for of_version in functions.values() for name in of_version]
    with tempfile.TemporaryDirectory() as folder:
        source, script = Path(folder) / "failing.c", Path(folder) / "versions.map"
        source.write_text("".join(f"int {name}(void) {{ return {FAILED}; }}\n" for name in names))
        script.write_text(
            "".join(f"{v} {{ global: {'; '.join(listed)}; }};\n" for v, listed in functions.items() if v and listed)
        )
        command = ["cc", "-w", "-O1", "-fno-builtin", "-shared", "-nostdlib", f"-Wl,-soname,{library.name}"]
        if script.stat().st_size:
            command.append(f"-Wl,--version-script,{script}")
        subprocess.run([*command, source, "-o", library], check=True)


def main(site_packages: Path) -> None:
    """Put a library beside torch's for each one that is missing."""
    own = site_packages / "torch/lib"
    # opened only to compile for a GPU
    (own / "libcaffe2_nvrtc.so").unlink(missing_ok=True)
    libraries = [*own.glob("*.so*"), *(site_packages / "torchvision").glob("*.so")]
    present = {path.name: path for path in site_packages.glob("**/*.so*")}
    missing = {name for path in libraries for name in needed(path) if CUDA.match(name)} - present.keys() - OF_THE_DRIVER
    defined: set[str] = set()
    undefined: set[tuple[str, str]] = set()
    file_of: dict[str, str] = {}
    for path in [*libraries, *(path for name, path in present.items() if CUDA.match(name))]:
        here, elsewhere = symbols(path)
        defined |= here
        undefined |= elsewhere
        file_of |= versions(path)
    wanted: dict[str, dict[str, list[str]]] = {name: {} for name in sorted(missing)}
    loose: list[str] = []
    for name, version in sorted(undefined):
        if name not in defined and file_of.get(version) in missing:
            wanted[file_of[version]].setdefault(version, []).append(name)
        elif name not in defined and not version:
            loose.append(name)
    for name, functions in wanted.items():
        # symbols without a version are found in any library that has no versions
        if not functions and loose:
            functions[""], loose = loose, []
        build(own / name, functions)
    if loose:
        sys.exit(f"no library for {', '.join(loose)}")
    sys.stdout.write(f"replaced: {', '.join(wanted)}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
