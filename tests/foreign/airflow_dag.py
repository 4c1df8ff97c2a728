"""One task with the operator, run by Airflow itself: scheduler, deferral and trigger in this process.

Arguments: request file, folder of images, address of the service, and JSON with more arguments of the operator. Prints
one line of JSON with the state of the task and what it left behind.
"""

from __future__ import annotations

import asyncio
import json
import sys

from airflow.sdk import DAG

from auditcore.client import Client
from auditcore.integrations.airflow import AuditOperator, AuditTrigger


def run(request: str, images: str, url: str, arguments: dict[str, object]) -> dict[str, object]:
    with DAG(dag_id="gate", schedule=None) as dag:
        AuditOperator(task_id="audit", url="{{ params.url }}", request=request, images=[images], **arguments)
    done = dag.test(run_conf={"url": url})
    (task,) = done.get_task_instances()
    return {
        "state": str(task.state),
        "result": task.xcom_pull(task_ids="audit"),
        "audit_id": task.xcom_pull(task_ids="audit", key="audit_id"),
    }


def kill(request: str, images: str, url: str) -> dict[str, object]:
    """Submit, and end the deferred task as the triggerer does."""
    with Client(url) as client:
        document = json.loads(open(request).read())  # noqa: PTH123, SIM115 - a script
        document["images"] = {"kind": "batch", "digest": client.upload(images).digest}
        audit_id = client.submit(document).id
        path, arguments = AuditTrigger(url, audit_id).serialize()
        assert path == f"{AuditTrigger.__module__}.{AuditTrigger.__name__}"
        asyncio.run(AuditTrigger(**arguments).on_kill())
        return {"state": client.status(audit_id).state}


if __name__ == "__main__":
    request, images, url, rest = sys.argv[1:]
    found = kill(request, images, url) if rest == "kill" else run(request, images, url, json.loads(rest))
    print("RESULT", json.dumps(found))
