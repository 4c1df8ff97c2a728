"""The process of a worker: an empty working folder, a database that is up to date, and the queue that is set."""

from __future__ import annotations

from auditcore_service.logs import configure_logs
from auditcore_service.settings import Settings
from auditcore_service.startup import CannotStart
from auditcore_service.store.database import Database
from auditcore_service.worker.locked_folders import remove_folders_of_the_dead
from auditcore_service.worker.sandbox.enforcement import hide_process, what_is_missing
from auditcore_service.worker.stopping import StopRequest
from auditcore_service.worker.working_folder import empty_working_folder


def run_worker(settings: Settings) -> None:
    """Work until SIGTERM: one child process that computes, all kinds of shards, in an empty working folder.

    Args:
        settings: The operator's settings.

    Raises:
        ValueError: The queue is Redis, and its address is not set.
        CannotStart: A sandbox is required, and this kernel has none.
    """
    configure_logs(settings)
    settings = settings.with_absolute_paths()
    # the process that computes is of the same user
    hide_process()
    if settings.sandbox == "required" and (missing := what_is_missing()) is not None:
        msg = f"AUDIT_SANDBOX is required, and this kernel lacks {missing}; set it to auto, or use another kernel"
        raise CannotStart(msg)
    with empty_working_folder() as own:
        stopping = StopRequest(own / "stop")
        database = Database(settings.database)
        database.migrate()
        database.close()
        if settings.queue == "database":
            from auditcore_service.worker.database_worker import work_from_database  # noqa: PLC0415 - only what is used is loaded

            work_from_database(settings, stopping)
        else:
            from auditcore_service.worker.celery_worker import work_from_celery  # noqa: PLC0415 - only what is used is loaded

            work_from_celery(settings, stopping)
    # those of children that ended without a word
    remove_folders_of_the_dead("compute")


def main() -> None:
    """Entry point of a worker of the embedded service; settings come from the environment."""
    run_worker(Settings())
