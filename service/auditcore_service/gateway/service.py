"""The gateway's parts, put together once and passed on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, final

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
from auditcore_service.use_cases.housekeeping import Housekeeping
from auditcore_service.use_cases.image_batches import ImageBatches
from auditcore_service.use_cases.inspections import Inspections
from auditcore_service.use_cases.policies import Policies
from auditcore_service.use_cases.replays import Replays
from auditcore_service.use_cases.retention import Retention
from auditcore_service.use_cases.uploaded_maps import MapUploads


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
    api_keys: ApiKeys
    audits: Audits
    evidence: Evidence
    deletions: Deletions
    replays: Replays
    batches: ImageBatches
    maps: MapUploads
    inspections: Inspections
    policies: Policies
    sweeper: Sweeper
    housekeeping: Housekeeping
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
        batches = ImageBatches(settings, database=database, blobs=blobs)
        maps = MapUploads(settings, database=database, blobs=blobs)
        policies = Policies(database=database)
        audits = Audits(
            settings,
            database=database,
            blobs=blobs,
            announcer=announcer,
            batches=batches,
            maps=maps,
            policies=policies,
            signing_key=key,
        )
        evidence = Evidence(database=database, audits=audits, signing_key=key)
        deletions = Deletions(database=database, audits=audits, evidence=evidence)
        return cls(
            settings=settings,
            database=database,
            blobs=blobs,
            queue=queue,
            announcer=announcer,
            authentication=Authentication(settings, database=database),
            api_keys=ApiKeys(database=database),
            audits=audits,
            evidence=evidence,
            deletions=deletions,
            replays=Replays(audits=audits),
            batches=batches,
            maps=maps,
            inspections=Inspections(settings, database=database, queue=queue),
            policies=policies,
            sweeper=Sweeper(settings, database=database, queue=queue),
            housekeeping=Housekeeping(
                settings,
                retention=Retention(settings, database=database, deletions=deletions),
                collection=Collection(settings, database=database, blobs=blobs),
            ),
            telemetry=Telemetry(database=database, queue=queue),
        )

    def start(self) -> None:
        """Bring the schema up to date, list the signing key, and begin what goes on in the background."""
        self.database.migrate()
        self.evidence.publish_key()
        self.authentication.start()
        self.announcer.start()
        self.sweeper.start()
        self.housekeeping.start()

    def stop(self) -> None:
        """Stop sweeping, announce what is left and close all connections."""
        self.housekeeping.stop()
        self.sweeper.stop()
        self.announcer.stop()
        self.authentication.stop()
        self.queue.close()
        self.database.close()
