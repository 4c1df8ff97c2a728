"""The component in a pipeline, run by kfp on this machine; and the component compiled.

Arguments: `compile PATH`, or `run REQUEST URL FOLDER`. Prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from kfp import dsl, local

from auditcore.integrations.kubeflow import audit_explanations, compile_component


def run(request: Path, url: str, folder: Path) -> dict[str, object]:
    # the package is installed here already; a cluster gets it from an index
    component = dsl.component(packages_to_install=[])(audit_explanations.python_func)
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder))
    try:
        outputs = component(url=url, request=request.read_text()).outputs
    except RuntimeError as error:
        return {"state": "failed", "problem": str(error)}
    return {
        "state": "succeeded",
        "verdict": outputs["verdict"],
        "audit_id": outputs["audit_id"],
        "metrics": dict(outputs["metrics"].metadata),
        "report": json.loads(Path(outputs["report"].path).read_text())["verdict"],
        "page": Path(outputs["page"].path).read_text()[:15],
    }


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["compile", path]:
            compile_component(Path(path))
        case ["run", request, url, folder]:
            print("RESULT", json.dumps(run(Path(request), url, Path(folder))))
