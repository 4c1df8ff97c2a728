"""A DAG with one task, the operator; run as a script, Airflow runs it: scheduler, deferral and trigger in one process.

OPERATOR_ARGUMENTS has the arguments of the operator as JSON, and `kill` to end the deferred task instead. Prints one
line of JSON with the state of the task and what it left behind.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

from airflow.sdk import DAG

from auditcore.client import Client
from auditcore.integrations.airflow import AuditOperator, AuditTrigger

ARGUMENTS = json.loads(os.environ.get("OPERATOR_ARGUMENTS", '{"request": "request.json"}'))
KILL = ARGUMENTS.pop("kill", False)

with DAG(dag_id="gate", schedule=None) as dag:
    AuditOperator(task_id="audit", **ARGUMENTS)


def run() -> dict[str, object]:
    """The task from its start to its end."""
    (task,) = dag.test().get_task_instances()
    return {
        "state": str(task.state),
        "result": task.xcom_pull(task_ids="audit"),
        "audit_id": task.xcom_pull(task_ids="audit", key="audit_id"),
    }


def kill() -> dict[str, object]:
    """An audit whose deferred task somebody ends, as the triggerer tells its trigger."""
    with Client() as client:
        document = json.loads(Path(ARGUMENTS["request"]).read_text())
        document["images"] = {"kind": "batch", "digest": client.upload(ARGUMENTS["images"][0]).digest}
        audit_id = client.submit(document).id
        path, arguments = AuditTrigger(None, audit_id).serialize()
        assert path == f"{AuditTrigger.__module__}.{AuditTrigger.__name__}"
        asyncio.run(AuditTrigger(**arguments).on_kill())
        return {"state": client.status(audit_id).state}


if __name__ == "__main__":
    print("RESULT", json.dumps(kill() if KILL else run()))
