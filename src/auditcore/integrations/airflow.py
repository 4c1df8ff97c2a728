"""An operator of Apache Airflow that gates a DAG on an audit, and does not hold a worker while the audit runs.

Needs `apache-airflow>=3` and `auditcore[client]` where tasks and the triggerer run. An audit that waits for hours takes
a slot of no worker: the operator submits and defers, and the triggerer follows.

    from auditcore.integrations.airflow import AuditOperator

    audit = AuditOperator(task_id="audit", url="https://auditcore.example", request="request.json", images=["photos/"])
    train >> audit >> deploy
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

from airflow.sdk import BaseOperator, Connection
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from auditcore.client import AsyncClient, Client, ClientError, Refused
from auditcore.client.errors import ServiceUnavailable, TooManyRequests

STOPPING: tuple[str, ...] = ("fail", "inconclusive")
"""Verdicts that fail a task unless it says otherwise."""


@final
class AuditTrigger(BaseTrigger):  # type: ignore[misc]  # mypy knows nothing of Airflow
    """Follows an audit in the triggerer until it ends.

    The event has `audit_id`, `url`, `verdict` (None without a report) and `problem` (None if there is a report).
    """

    def __init__(self, url: str | None, audit_id: str, conn_id: str | None = None) -> None:
        """Follow an audit.

        Args:
            url: Address of the service; AUDIT_URL of the triggerer if None.
            audit_id: Id of the audit.
            conn_id: Connection of Airflow whose password is the token; AUDIT_TOKEN of the triggerer if None. The token
                itself is no argument, because Airflow stores arguments in its database.
        """
        super().__init__()
        self.url = url
        self.audit_id = audit_id
        self.conn_id = conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What Airflow needs to make this trigger again in another process."""
        return (
            "auditcore.integrations.airflow.AuditTrigger",
            {"url": self.url, "audit_id": self.audit_id, "conn_id": self.conn_id},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the end of the audit; one event."""
        verdict, problem = None, None
        async with await self._client() as client:
            url = f"{client.url}/v1/audits/{self.audit_id}"
            try:
                verdict = (await client.wait(self.audit_id)).verdict
            except ClientError as error:
                problem = str(error)
        yield TriggerEvent({"audit_id": self.audit_id, "url": url, "verdict": verdict, "problem": problem})

    async def on_kill(self) -> None:
        """Cancel the audit, because somebody has ended the task. Airflow before 3.3 does not call it."""
        async with await self._client() as client:
            await client.cancel(self.audit_id)

    async def _client(self) -> AsyncClient:
        if self.conn_id is None:
            return AsyncClient(self.url)
        return AsyncClient(self.url, token=_password(await Connection.async_get(self.conn_id)))


@final
class AuditOperator(BaseOperator):  # type: ignore[misc]  # the same
    """Submits an audit, waits for it without a worker, and fails the task by its verdict.

    Its result (XCom) is `{"audit_id": ..., "verdict": ..., "url": ...}`; `audit_id` is there as an XCom of its own as
    soon as the service has accepted the audit.

    A task that a verdict stops is not tried again, since the same audit has the same verdict; a failed audit or a
    service that is away is, as `retries` of the task say.
    """

    template_fields: ClassVar[tuple[str, ...]] = ("url", "request", "images", "tags_of_audit", "policy")

    def __init__(
        self,
        *,
        request: Mapping[str, Any] | str,
        url: str | None = None,
        images: Sequence[str] = (),
        policy: str | None = None,
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
        conn_id: str | None = None,
        fail_on: Collection[str] = STOPPING,
        deferrable: bool = True,
        **kwargs: Any,  # noqa: ANN401 - arguments of Airflow's own operator
    ) -> None:
        """Describe the audit.

        Args:
            request: The request, or the path of its file.
            url: Address of the service; AUDIT_URL of worker and triggerer if None.
            images: Image files and folders in place of the request's own.
            policy: Name and version of a policy in place of the request's own.
            name: What to call the audit in lists.
            tags: Key -> value, to find the audit by.
            conn_id: Connection of Airflow whose password is the token for the service; AUDIT_TOKEN if None.
            fail_on: Verdicts that fail the task.
            deferrable: Whether the triggerer waits; False waits in the worker, for an Airflow without a triggerer.
            **kwargs: Arguments of every operator, such as `task_id`.
        """
        super().__init__(**kwargs)
        self.url = url
        self.request = request
        self.images = images
        self.policy = policy
        self.audit_name = name
        self.tags_of_audit = tags
        self.conn_id = conn_id
        self.fail_on = tuple(fail_on)
        self.deferrable = deferrable
        self._audit_id: str | None = None

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Submit the audit and defer; without the triggerer, wait.

        Raises:
            AirflowFailException: A verdict of `fail_on`, or a request that the service refuses.
            AirflowException: The audit failed, or no service answers.
        """
        task = context["ti"]
        with self._client() as client:
            try:
                document = self._document(client)
                status = client.submit(document, idempotency_key=_key(task))
                self._audit_id = status.id
                task.xcom_push(key="audit_id", value=status.id)
                url = f"{client.url}/v1/audits/{status.id}"
                self.log.info("audit %s accepted: %s", status.id, url)
                if not self.deferrable:
                    verdict = client.wait(status.id).verdict
                    return self._result({"audit_id": status.id, "url": url, "verdict": verdict, "problem": None})
            except ClientError as error:
                # the same request is refused again, but a service that is away or busy comes back
                passing = not isinstance(error, Refused) or isinstance(error, ServiceUnavailable | TooManyRequests)
                raise (AirflowException if passing else AirflowFailException)(str(error)) from error
        self.defer(trigger=AuditTrigger(self.url, status.id, self.conn_id), method_name="finish")
        return {}

    def finish(self, context: Mapping[str, Any], event: Mapping[str, Any]) -> dict[str, Any]:
        """Go on when the audit has ended.

        Args:
            context: Of the task; not used.
            event: Of the trigger.

        Raises:
            AirflowFailException: A verdict of `fail_on`.
            AirflowException: The audit has no report.
        """
        del context
        return self._result(event)

    def on_kill(self) -> None:
        """Cancel the audit of a task that is ended while it runs in a worker."""
        if self._audit_id is not None:
            with self._client() as client:
                client.cancel(self._audit_id)

    def _result(self, event: Mapping[str, Any]) -> dict[str, Any]:
        if event["problem"] is not None:
            raise AirflowException(event["problem"])
        if event["verdict"] in self.fail_on:
            message = f"the verdict is {event['verdict']}: {event['url']}"
            raise AirflowFailException(message)
        return {"audit_id": event["audit_id"], "verdict": event["verdict"], "url": event["url"]}

    def _document(self, client: Client) -> Mapping[str, Any]:
        given = self.request
        document = json.loads(Path(given).read_text(encoding="utf-8")) if isinstance(given, str) else dict(given)
        if self.images:
            document["images"] = {"kind": "batch", "digest": client.upload([Path(one) for one in self.images]).digest}
        named = {"policy": self.policy, "name": self.audit_name, "tags": self.tags_of_audit}
        return {**document, **{key: value for key, value in named.items() if value is not None}}

    def _client(self) -> Client:
        token = None if self.conn_id is None else _password(Connection.get(self.conn_id))
        return Client(self.url, token=token)


def _password(connection: Any) -> str | None:  # noqa: ANN401 - Airflow's own type
    """The token of a connection; None leaves it to the environment."""
    return connection.password or None


def _key(task: Any) -> str:  # noqa: ANN401 - Airflow's own type
    """Names one try of one task, so that a worker that dies after its submit starts no second audit."""
    parts = (task.dag_id, task.run_id, task.task_id, task.map_index, task.try_number)
    return "airflow/" + "/".join(map(str, parts))
