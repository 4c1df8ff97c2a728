"""The tables. Times are seconds since 1970 UTC. JSON is text, so that SQLite and PostgreSQL store the same bytes."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from auditcore_service.principals import DEFAULT_TENANT

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# in SQLite, BIGINT PRIMARY KEY is not an alias of the rowid, so it would not increment automatically
_SEQUENCE = BigInteger().with_variant(Integer(), "sqlite")
_DIGEST = String(71)
_ID = String(36)


def _tenant(*, primary_key: bool = False) -> Column[str]:
    """Whose the row is; the server default is the owner of what was stored before there were tenants."""
    return Column("tenant", String(64), nullable=False, primary_key=primary_key, server_default=DEFAULT_TENANT)


IMAGE_BATCHES = Table(
    "image_batches",
    METADATA,
    _tenant(primary_key=True),
    Column("digest", _DIGEST, primary_key=True),
    Column("manifest", Text, nullable=False),
    Column("images", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("used_at", Double),
)

MAP_FILES = Table(
    "map_files",
    METADATA,
    _tenant(primary_key=True),
    Column("digest", _DIGEST, primary_key=True),
    # not known of files that were uploaded before this table existed
    Column("size_bytes", BigInteger),
    Column("created_at", Double, nullable=False),
    Column("used_at", Double),
)

AUDITS = Table(
    "audits",
    METADATA,
    Column("id", _ID, primary_key=True),
    _tenant(),
    # `audit`, `training` or `experiment`; the server default lets a gateway of the previous release continue writing
    Column("kind", String(16), nullable=False, server_default="audit"),
    Column("state", String(16), nullable=False),
    Column("request", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("images", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("verdict", String(16)),
    Column("report_digest", _DIGEST),
    # the file of weights that a training, or an experiment that makes a model, has made
    Column("weights_digest", _DIGEST),
    Column("error_code", String(64)),
    Column("error_message", Text),
    Column("error_field", String(1024)),
    Column("estimate", Text),
    Column("replay_of", _ID),
    Column("name", String(200)),
    # false until the pictures and models of an audit of an earlier release are in their tables
    Column("contents_listed", Boolean, nullable=False, server_default=false()),
    # when a worker last claimed a shard of it; decides whose turn it is
    Column("served_at", Double),
    Index(None, "created_at", "id"),
    Index(None, "tenant", "created_at"),
    Index(None, "tenant", "name"),
    Index(None, "tenant", "served_at"),
    # which training has made the weights of a model
    Index(None, "tenant", "weights_digest"),
    Index(None, "state"),
)

AUDIT_TAGS = Table(
    "audit_tags",
    METADATA,
    Column("audit_id", _ID, ForeignKey("audits.id", ondelete="CASCADE"), primary_key=True),
    _tenant(),
    Column("key", String(63), primary_key=True),
    Column("value", String(200), nullable=False),
    Index(None, "tenant", "key", "value"),
)

AUDIT_INPUTS = Table(
    "audit_inputs",
    METADATA,
    Column("audit_id", _ID, ForeignKey("audits.id", ondelete="CASCADE"), primary_key=True),
    _tenant(),
    Column("kind", String(16), primary_key=True),
    Column("digest", _DIGEST, primary_key=True),
    Index(None, "tenant", "kind", "digest"),
)

PICTURES = Table(
    "pictures",
    METADATA,
    Column("audit_id", _ID, ForeignKey("audits.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", _DIGEST, primary_key=True),
)

EXPERIMENT_FILES = Table(
    "experiment_files",
    METADATA,
    Column("audit_id", _ID, ForeignKey("audits.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(200), primary_key=True),
    Column("stage", String(200), nullable=False),
    Column("digest", _DIGEST, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
)

SHARDS = Table(
    "shards",
    METADATA,
    Column("audit_id", _ID, ForeignKey("audits.id", ondelete="CASCADE"), primary_key=True),
    Column("wave", Integer, primary_key=True, autoincrement=False),
    Column("index", Integer, primary_key=True, autoincrement=False),
    # the server default lets a gateway of the previous release continue writing during an upgrade
    Column("model", Integer, nullable=False, server_default="0"),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False, default=0),
    Column("start", Integer, nullable=False),
    Column("stop", Integer, nullable=False),
    Column("weight", Double, nullable=False),
    Column("progress", Double, nullable=False, default=0.0),
    Column("lease_until", Double),
    Column("queued_at", Double),
    Column("result_digest", _DIGEST),
    Column("error", Text),
    Column("faults", Integer, nullable=False, server_default="0"),
    Column("losses", Integer, nullable=False, server_default="0"),
    Column("deaths", Integer, nullable=False, server_default="0"),
    Column("postponements", Integer, nullable=False, server_default="0"),
    Column("postponed_since", Double),
    Column("not_before", Double),
    Column("waiting_for", String(16)),
    Column("left_out", String(64)),
    # the index of the shard of which it is a part; its own if null
    Column("origin", Integer),
    CheckConstraint("attempt >= 0", name="attempt_counts_up"),
    CheckConstraint("progress BETWEEN 0 AND 1", name="progress_is_a_share"),
    Index(None, "state", "lease_until"),
    # whether an audit has something to claim, however many of its shards are done
    Index(None, "audit_id", "state"),
)

EVENTS = Table(
    "events",
    METADATA,
    Column("id", _SEQUENCE, primary_key=True, autoincrement=True),
    Column("audit_id", _ID, ForeignKey("audits.id", ondelete="CASCADE"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("data", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Index(None, "audit_id", "id"),
)

IDEMPOTENCY_KEYS = Table(
    "idempotency_keys",
    METADATA,
    _tenant(primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", _DIGEST, nullable=False),
    Column("audit_id", _ID),
    Column("created_at", Double, nullable=False),
)

SPEEDS = Table(
    "speeds",
    METADATA,
    Column("model", _DIGEST, primary_key=True),
    Column("device", String(64), primary_key=True),
    Column("plan", _DIGEST, primary_key=True),
    Column("wave", String(16), primary_key=True),
    Column("passes", Double, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)

INSPECTIONS = Table(
    "inspections",
    METADATA,
    Column("digest", _DIGEST, primary_key=True),
    _tenant(),
    Column("request", Text, nullable=False),
    Column("reference", Text, nullable=False),
    Column("queued_at", Double, nullable=False),
    Column("claimed_at", Double),
    Column("answer", Text),
    Column("error_code", String(64)),
    Column("error_message", Text),
    Column("error_field", String(1024)),
    Index(None, "queued_at"),
)

POLICIES = Table(
    "policies",
    METADATA,
    _tenant(primary_key=True),
    Column("digest", _DIGEST, primary_key=True),
    Column("name", String(64), nullable=False),
    Column("version", String(32), nullable=False),
    Column("document", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("tenant", "name", "version"),
    Index(None, "created_at", "digest"),
)

FROZEN_IMAGES = Table(
    "frozen_images",
    METADATA,
    Column("audit_id", _ID, ForeignKey("audits.id", ondelete="CASCADE"), primary_key=True),
    Column("index", Integer, primary_key=True, autoincrement=False),
    Column("digest", _DIGEST, nullable=False),
)

REGISTRATIONS = Table(
    "registrations",
    METADATA,
    # no foreign key: evidence stays when its audit is deleted
    Column("audit_id", _ID, primary_key=True),
    _tenant(),
    Column("digest", _DIGEST, nullable=False),
    Column("envelope", Text, nullable=False),
    Column("evidence", Text),
    Column("created_at", Double, nullable=False),
)

SIGNING_KEYS = Table(
    "signing_keys",
    METADATA,
    Column("key_id", String(64), primary_key=True),
    Column("public_key", Text, nullable=False),
    Column("first_used_at", Double, nullable=False),
)

LOG_ENTRIES = Table(
    "log_entries",
    METADATA,
    _tenant(primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("time", String(32), nullable=False),
    Column("principal", String(255)),
    Column("kind", String(16), nullable=False),
    Column("subject", String(255), nullable=False),
    Column("data", Text, nullable=False),
    Column("previous", _DIGEST, nullable=False),
    Column("hash", _DIGEST, nullable=False),
    Index(None, "subject", "kind"),
)

TENANTS = Table(
    "tenants",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("created_at", Double, nullable=False),
    Column("requests_per_minute", BigInteger),
    Column("running_audits", BigInteger),
    Column("passes_per_day", BigInteger),
    Column("stored_bytes", BigInteger),
    Column("retention_days", BigInteger),
)

DAILY_PASSES = Table(
    "daily_passes",
    METADATA,
    _tenant(primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("passes", BigInteger, nullable=False),
)

WEBHOOKS = Table(
    "webhooks",
    METADATA,
    Column("id", _ID, primary_key=True),
    _tenant(),
    Column("url", Text, nullable=False),
    Column("events", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("secret", String(64), nullable=False),
    Column("previous_secret", String(64)),
    Column("previous_until", Double),
    Column("created_at", Double, nullable=False),
    Column("failing_since", Double),
    Column("paused_until", Double),
    Column("disabled_at", Double),
    Column("disabled_reason", Text),
    Index(None, "tenant", "created_at"),
)

WEBHOOK_DELIVERIES = Table(
    "webhook_deliveries",
    METADATA,
    Column("webhook_id", _ID, ForeignKey("webhooks.id", ondelete="CASCADE"), primary_key=True),
    Column("id", _ID, primary_key=True),
    _tenant(),
    Column("event", String(32), nullable=False),
    Column("audit_id", _ID),
    Column("payload", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("created_at", Double, nullable=False),
    Column("next_attempt_at", Double),
    Column("attempted_at", Double),
    Column("status", Integer),
    Column("error", Text),
    Index(None, "state", "next_attempt_at"),
    Index(None, "webhook_id", "created_at"),
    Index(None, "created_at"),
)

API_KEYS = Table(
    "api_keys",
    METADATA,
    Column("id", String(8), primary_key=True),
    _tenant(),
    Column("name", String(64), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("secret_digest", _DIGEST, nullable=False),
    Column("previous_digest", _DIGEST),
    Column("previous_until", Double),
    Column("created_at", Double, nullable=False),
    Column("created_by", String(255)),
    Column("expires_at", Double),
    Column("rotated_at", Double),
    Column("revoked_at", Double),
    Column("last_used_at", Double),
    UniqueConstraint("tenant", "name"),
    Index(None, "created_at", "id"),
)
