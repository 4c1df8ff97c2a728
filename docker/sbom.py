"""Lists what is in an image as CycloneDX: packages of Python and of Debian, with versions and licenses.

    python docker/sbom.py auditcore-gateway --out gateway.cdx.json

The file is checked against the schema of CycloneDX before it is written.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

ENGINE = Path(__file__).with_name("engine")

LONGEST_NAME = 80
"""Characters of a license's name; what is longer is the whole text of a license, which old packages put there."""

# runs in the image with its own Python, which has nothing else
LISTING = r"""
import importlib.metadata, json, subprocess
python = [
    [d.name, d.version, d.metadata.get("License-Expression") or d.metadata.get("License") or ""]
    for d in importlib.metadata.distributions()
]
query = ["dpkg-query", "-W", "-f", "${Package}\t${Version}\t${Architecture}\n"]
text = subprocess.run(query, capture_output=True, text=True).stdout
print(json.dumps({"python": python, "debian": [line.split("\t") for line in text.splitlines()]}))
"""


def listed(image: str) -> dict[str, list[list[str]]]:
    """Packages of an image."""
    command = [ENGINE, "run", "--rm", "--network", "none", "--entrypoint", "python", image, "-c", LISTING]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{image}: {done.stderr}")
    found: dict[str, list[list[str]]] = json.loads(done.stdout)
    return found


def bill(image: str, packages: dict[str, list[list[str]]]) -> Bom:
    """The bill of materials of an image with these packages."""
    bom = Bom()
    bom.metadata.component = Component(name=image, type=ComponentType.CONTAINER, bom_ref=image)
    for name, version, license_text in packages["python"]:
        url = PackageURL("pypi", None, name.lower().replace("_", "-"), version)
        named = [DisjunctiveLicense(name=license_text)] if 0 < len(license_text) <= LONGEST_NAME else []
        bom.components.add(Component(name=name, version=version, purl=url, bom_ref=url.to_string(), licenses=named))
    for name, version, architecture in packages["debian"]:
        url = PackageURL("deb", "debian", name, version, {"arch": architecture})
        bom.components.add(Component(name=name, version=version, purl=url, bom_ref=url.to_string()))
    bom.register_dependency(bom.metadata.component, bom.components)
    return bom


def text_of(bom: Bom) -> str:
    """The bill as JSON that follows the schema.

    Raises:
        ValueError: It does not.
    """
    text: str = JsonV1Dot6(bom).output_as_string(indent=1)
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if error is not None:
        msg = f"no valid CycloneDX: {error}"
        raise ValueError(msg)
    return text


def main() -> None:
    """Write the bill of one image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    packages = listed(options.image)
    options.out.write_text(text_of(bill(options.image, packages)))
    sys.stdout.write(
        f"{options.out}: {len(packages['python'])} packages of Python, {len(packages['debian'])} of Debian\n"
    )


if __name__ == "__main__":
    main()
