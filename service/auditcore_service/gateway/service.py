"""The gateway's parts, put together once and passed on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, final

import structlog

from auditcore_service.gateway.readiness import Dependency, Readiness
from auditcore_service.key_files import read_signing_key
from auditcore_service.queue.announcer import Announcer
from auditcore_service.queue.shard_queue import ShardQueue, open_queue
from auditcore_service.queue.sweeper import Sweeper
from auditcore_service.settings import Settings
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database
from auditcore_service.telemetry import Telemetry
from auditcore_service.use_cases.api_keys import ApiKeys
from auditcore_service.use_cases.audits import Audits
from auditcore_service.use_cases.authentication import Authentication
from auditcore_service.use_cases.collection import Collection
from auditcore_service.use_cases.deletions import Deletions
from auditcore_service.use_cases.evidence import Evidence
from auditcore_service.use_cases.experiments import Experiments
from auditcore_service.use_cases.housekeeping import Housekeeping
from auditcore_service.use_cases.image_batches import ImageBatches
from auditcore_service.use_cases.inspections import Inspections
from auditcore_service.use_cases.policies import Policies
from auditcore_service.use_cases.quotas import Quotas
from auditcore_service.use_cases.replays import Replays
from auditcore_service.use_cases.request_rates import RequestRates
from auditcore_service.use_cases.retention import Retention
from auditcore_service.use_cases.trainings import Trainings
from auditcore_service.use_cases.uploaded_maps import MapUploads
from auditcore_service.use_cases.webhooks import Webhooks
from auditcore_service.webhooks.receivers import Receivers
from auditcore_service.webhooks.sender import WebhookSender

log = structlog.get_logger(__name__)


@final
@dataclass(frozen=True)
class Service:
    """The use cases and the parts that they need."""

    settings: Settings
    database: Database
    blobs: BlobStore
    queue: ShardQueue
    announcer: Announcer
    authentication: Authentication
    quotas: Quotas
    rates: RequestRates
    api_keys: ApiKeys
    audits: Audits
    trainings: Trainings
    experiments: Experiments
    evidence: Evidence
    deletions: Deletions
    replays: Replays
    batches: ImageBatches
    maps: MapUploads
    inspections: Inspections
    policies: Policies
    webhooks: Webhooks
    webhook_sender: WebhookSender
    sweeper: Sweeper
    housekeeping: Housekeeping
    readiness: Readiness
    telemetry: Telemetry

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Build every part; opens no connection yet.

        Raises:
            SigningKeyUnreadable: The signing key cannot be read.
        """
        key = None if settings.signing_key is None else read_signing_key(settings.signing_key)
        database = Database(settings.database)
        blobs = BlobStore(settings.blobs)
        queue = open_queue(settings, database)
        announcer = Announcer(queue)
        quotas = Quotas(settings, database=database)
        batches = ImageBatches(settings, database=database, blobs=blobs, quotas=quotas)
        maps = MapUploads(settings, database=database, blobs=blobs, quotas=quotas)
        policies = Policies(database=database)
        sender = WebhookSender(settings, database=database)
        audits = Audits(
            settings,
            database=database,
            blobs=blobs,
            announcer=announcer,
            batches=batches,
            maps=maps,
            policies=policies,
            quotas=quotas,
            signing_key=key,
        )
        trainings = Trainings(
            settings,
            database=database,
            blobs=blobs,
            announcer=announcer,
            batches=batches,
            quotas=quotas,
            signing_key=key,
        )
        experiments = Experiments(
            settings, database=database, blobs=blobs, announcer=announcer, batches=batches, quotas=quotas
        )
        evidence = Evidence(database=database, audits=audits, trainings=trainings, signing_key=key)
        deletions = Deletions(
            database=database, audits=audits, trainings=trainings, experiments=experiments, evidence=evidence
        )
        return cls(
            settings=settings,
            database=database,
            blobs=blobs,
            queue=queue,
            announcer=announcer,
            quotas=quotas,
            rates=RequestRates(settings, database=database, quotas=quotas),
            authentication=Authentication(settings, database=database),
            api_keys=ApiKeys(database=database),
            audits=audits,
            trainings=trainings,
            experiments=experiments,
            evidence=evidence,
            deletions=deletions,
            replays=Replays(audits=audits),
            batches=batches,
            maps=maps,
            inspections=Inspections(settings, database=database, queue=queue),
            policies=policies,
            webhooks=Webhooks(
                database=database, receivers=Receivers(settings.webhook_prefixes), on_enqueued=sender.wake
            ),
            webhook_sender=sender,
            sweeper=Sweeper(settings, database=database, queue=queue),
            housekeeping=Housekeeping(
                settings,
                retention=Retention(settings, database=database, deletions=deletions),
                collection=Collection(settings, database=database, blobs=blobs),
            ),
            readiness=Readiness(
                {
                    "database": Dependency(database.check),
                    "queue": Dependency(queue.check),
                    # this writes, and an object store charges for it
                    "blobs": Dependency(blobs.check, kept_s=10.0),
                }
            ),
            telemetry=Telemetry(database=database, queue=queue),
        )

    def start(self) -> None:
        """Bring the schema up to date, list the signing key, and begin what goes on in the background."""
        self.database.migrate()
        if self.database.is_without_walls():
            log.warning("database_role_passes_row_level_security", fix="use a role that is no superuser")
        self.evidence.publish_key()
        self.authentication.start()
        self.announcer.start()
        self.sweeper.start()
        self.webhook_sender.start()
        self.housekeeping.start()

    def stop(self) -> None:
        """Stop what runs in the background, announce what is left and close all connections."""
        self.housekeeping.stop()
        self.webhook_sender.stop()
        self.sweeper.stop()
        self.announcer.stop()
        self.authentication.stop()
        self.queue.close()
        self.rates.close()
        self.database.close()
