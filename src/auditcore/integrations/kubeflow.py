"""A component of Kubeflow Pipelines (v2) that gates a pipeline on an audit.

Needs `kfp>=2`. `integrations/kubeflow/auditcore_component.yaml` is this component, compiled: it is loaded without this
package. Run `python -m auditcore.integrations.kubeflow PATH` to compile it again.

    from kfp import dsl
    from auditcore.integrations.kubeflow import audit_explanations

    @dsl.pipeline
    def gated() -> None:
        audit = audit_explanations(url="https://auditcore.example", request=Path("request.json").read_text())
        deploy().after(audit)
"""

# no `from __future__ import annotations`: kfp reads the annotations of a component as objects
import sys
from pathlib import Path
from typing import NamedTuple

from kfp import compiler, dsl

BASE_IMAGE = "python:3.12-slim"
PACKAGE = "auditcore[client]"


@dsl.component(base_image=BASE_IMAGE, packages_to_install=[PACKAGE])  # type: ignore[untyped-decorator]  # kfp's own
def audit_explanations(
    url: str,
    request: str,
    report: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    fail_on: list = ["fail", "inconclusive"],  # type: ignore[type-arg]  # noqa: B006 - kfp knows only the bare class, and copies it
) -> NamedTuple("Outputs", [("verdict", str), ("audit_id", str)]):  # type: ignore[valid-type]  # kfp needs it here
    """Audit the explanations of an image classifier, and fail on the verdicts that stop a pipeline.

    The token for the service is in AUDIT_TOKEN; set it from a secret with kfp-kubernetes.

    Args:
        url: Address of the auditcore service.
        request: The request as JSON: model, images, plan and policy. As text, because kfp has no null and makes a
            decimal number of every whole one.
        report: The report as JSON.
        page: The report as a page, without pictures to fetch.
        metrics: The means of the headline metrics, by explainer.
        fail_on: Verdicts that fail the step.

    Returns:
        The verdict and the id of the audit. A step that fails has neither; its log has them.
    """
    # this function is all of the component, so that it holds its imports
    import json  # noqa: PLC0415
    from collections import namedtuple  # noqa: PLC0415 - kfp wants a named tuple, and types are above
    from pathlib import Path  # noqa: PLC0415

    from auditcore.client import Client  # noqa: PLC0415
    from auditcore.report.headline_numbers import headline_numbers  # noqa: PLC0415

    with Client(url) as client:
        status = client.submit(json.loads(request))
        print(f"audit {status.id} accepted: {client.url}/v1/audits/{status.id}", flush=True)  # noqa: T201 - the log
        verdict = client.wait(status.id).verdict
        Path(report.path).write_bytes(client.report_as(status.id, "json"))
        Path(page.path).write_bytes(client.report_as(status.id, "html"))
        for name, mean in headline_numbers(client.report(status.id)).items():
            metrics.log_metric(name, mean)
    report.metadata.update(audit_id=status.id, verdict=verdict)
    if verdict in fail_on:
        message = f"the verdict is {verdict}: {client.url}/v1/audits/{status.id}"
        raise RuntimeError(message)
    outputs = namedtuple("outputs", ["verdict", "audit_id"])  # noqa: PYI024 - as above
    return outputs(verdict, status.id)


def compile_component(path: Path) -> None:
    """Write the component as YAML, which pipelines load without this package."""
    compiler.Compiler().compile(audit_explanations, str(path))


if __name__ == "__main__":
    compile_component(Path(sys.argv[1]))
