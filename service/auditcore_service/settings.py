"""The settings of an operator: one frozen object, built in an entry point and passed on."""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self, final
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, StringConstraints, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from auditcore.contracts.access import (
    DEMO_FACTORY,
    DEMO_PACKAGE,
    AccessRules,
    Limits,
    check_prefix_form,
    check_prefixes,
)
from auditcore.contracts.artifacts import PICTURE_IMAGES
from auditcore.contracts.contract import Sha256
from auditcore_service.principals import Scope
from auditcore_service.waits import LONGEST_WAIT_S, Backoff

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]

TASKS_PER_CHILD = 200
"""Shards that a process computes before a new one takes its place. Not 1: the cached models live in the process."""

QueueName = Literal["gpu", "control", "training"]
"""A queue of work: shards that compute; shards that assemble a report; shards of trainings and of experiments."""

QUEUE_NAMES: Final[tuple[QueueName, ...]] = ("gpu", "control", "training")

_RELATIVE = re.compile(r"(?P<start>sqlite(?:\+\w+)?:///|file://|file:|)(?P<path>(?![/~]|:memory:|file:)[^:]+)")
"""A URL, or a plain path, that leads to a file by way of the working folder."""

_CLIENT_VARIABLES = frozenset(
    {"URL", "TOKEN", "TOKEN_FILE", "REQUEST", "IMAGES", "POLICY", "NAME", "TAGS", "COMMENT", "FOLDER", "GITLAB_TOKEN"}
)
"""Variables, without prefix, that the command line reads itself: a service to ask, credentials, a pipeline's audit."""

_NEAR = 0.6
"""Least similarity of a misspelt name, as difflib measures it; `PROT` and `PORT` have 0.75."""

COMPUTE_START_S: Final = 300.0
"""Longest start of a process that computes. Importing torch takes 4 s warm, and minutes from a slow disk."""


@final
class Settings(BaseSettings):
    """Read from `AUDIT_*` environment variables; nothing has a default secret.

    Lists and tables are JSON in the environment: `AUDIT_FILE_ROOTS='["/data/photos"]'`.
    """

    model_config = SettingsConfigDict(
        env_prefix="AUDIT_",
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        validate_default=True,
        # an error about all settings together would print them, passwords included
        hide_input_in_errors=True,
    )

    data_dir: Path = Field(
        default=Path("var/auditcore"), description="Embedded service: database, blobs and queue live here."
    )
    database_url: SecretStr | None = Field(
        default=None, description="`postgresql://...` or `sqlite:///...`; SQLite below data_dir if unset."
    )
    redis_url: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("AUDIT_REDIS_URL", "REDIS_URL"),
        description="`redis://`, `rediss://` or `unix://`; the embedded service starts its own Redis if unset.",
    )
    queue: Literal["auto", "redis", "database"] = Field(
        default="auto",
        description="How workers hear of shards: `redis` (through Celery), `database` (they ask it), or `auto`: Redis, "
        "but the embedded service takes the database where it finds no Redis.",
    )
    queues: Annotated[tuple[QueueName, ...], Field(min_length=1)] = Field(
        default=QUEUE_NAMES,
        description="What a worker does: `gpu` computes shards of audits and inspects models, `control` makes reports, "
        "`training` does trainings and experiments. A worker that does everything trains only while no audit waits. At "
        "least one worker has to do each.",
    )
    blob_url: str | None = Field(default=None, description="fsspec URL, such as `s3://bucket/prefix`; below data_dir.")

    signing_key: Path | None = Field(
        default=None,
        description="File with the private Ed25519 key (PEM) that signs evidence; only gateways read it. If unset, the "
        "embedded service makes `signing-key.pem` below data_dir, and a gateway signs nothing.",
    )

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535, description="0 takes any free port.")

    authentication: Literal["none", "required"] = Field(
        default="none",
        description="`required`: every request needs an API key or a token. `none`: everybody who reaches the address "
        "may do everything, so it has to be an address of this machine only, such as 127.0.0.1.",
    )
    unauthenticated_host: str | None = Field(
        default=None,
        description="Another address at which the service may listen without authentication, because something in "
        "front of it knows who asks; has to be the same as `AUDIT_HOST`.",
    )
    allowed_hosts: tuple[Annotated[str, StringConstraints(pattern=r"^[a-z0-9._-]+$")], ...] = Field(
        default=(),
        description="Names, in small letters and without port, by which clients call a service without "
        "authentication, besides localhost and addresses of its machine. Other names in the header `Host` are "
        "refused, because a web page could lead its own name there.",
    )
    oidc_issuer: str | None = Field(
        default=None,
        description="OpenID Connect issuer whose tokens are accepted, exactly as the claim `iss` writes it. Its keys "
        "are found through `/.well-known/openid-configuration`.",
    )
    oidc_audience: str | None = Field(
        default=None, description="What the claim `aud` of a token has to name: this service."
    )
    oidc_tenant_claim: str | None = Field(
        default=None,
        description="Claim that names the tenant of a token; a path such as `org.name` leads into an object. All "
        "tokens belong to the tenant `default` if unset.",
    )
    oidc_scope_claim: str = Field(
        default="scope",
        description="Claim with the scopes of a token: a list, or words with spaces between. Words that are no scopes "
        "of auditcore are ignored.",
    )
    oidc_name_claim: str = Field(
        default="sub", description="Claim that names who asks, in the event log and in sign-offs."
    )
    oidc_required_claims: dict[str, str] = Field(
        default_factory=dict, description="Claims that a token has to have, with their values, as a JSON object."
    )
    oidc_granted_scopes: tuple[Scope, ...] = Field(
        default=(),
        description="Scopes of every token that has the required claims, for issuers that know no scopes, such as "
        "those of CI pipelines.",
    )

    factories: tuple[str, ...] = Field(default=(DEMO_FACTORY,), description="`module:attribute` targets allowed.")
    explainers: tuple[str, ...] = Field(
        default=(), description="`module:attribute` functions allowed as explainers of kind `callable`."
    )
    packages: tuple[str, ...] = Field(default=(DEMO_PACKAGE,), description="Packages readable with `package:`.")
    file_roots: tuple[Path, ...] = Field(default=(), description="Folders readable with `file:`.")
    https_prefixes: tuple[str, ...] = Field(default=(), description="Prefixes readable with `https:`, ending in `/`.")
    storage_prefixes: tuple[str, ...] = Field(
        default=(), description="Prefixes readable in object stores, such as `s3://models/`, ending in `/`."
    )
    server_prefixes: tuple[str, ...] = Field(
        default=(), description="Prefixes of servers of models, such as `http://torchserve:8080/`, ending in `/`."
    )
    token_roots: tuple[Path, ...] = Field(default=(), description="Folders with token files of such servers.")
    webhook_prefixes: tuple[str, ...] = Field(
        default=(),
        description="Prefixes of receivers of webhooks that may be inside the network or behind `http:`, such as "
        "`http://pipeline.internal:8080/`, ending in `/`. All others are public and behind `https:`.",
    )
    code_digests: tuple[Sha256, ...] = Field(
        default=(), description="sha256 of archives and programs that may be run: TorchScript, .pt2, eager .mar."
    )
    mlflow_tracking_uri: str | None = Field(
        default=None, description="MLflow registry: `http(s)://...` or `file:///...`; none if unset."
    )
    huggingface_repos: tuple[str, ...] = Field(
        default=(), description="Repositories of the hub, `org/name`, or `org/` for all of an organization."
    )
    model_keys: tuple[Path, ...] = Field(
        default=(), description="Files with public keys in PEM; models that they signed are trusted (model-signing)."
    )
    image_bytes: int = Field(default=Limits().image_bytes, ge=1)
    image_pixels: int = Field(default=Limits().image_pixels, ge=1)
    batch_images: int = Field(default=Limits().batch_images, ge=1, le=10_000)
    batch_bytes: int = Field(default=Limits().batch_bytes, ge=1)
    weights_bytes: int = Field(default=Limits().weights_bytes, ge=1)
    request_bytes: int = Field(default=64 * 2**20, ge=1024, description="Largest JSON body, inline images included.")

    connections: int = Field(
        default=2000,
        ge=1,
        description="Connections that a gateway holds at the same time, event streams included; further ones get 503. "
        "Fewer where the limit on open files is lower.",
    )
    stalled_s: Seconds = Field(
        default=30.0,
        description="A client that has begun a request and sends nothing more of it for this long, or that reads "
        "nothing of its answer, is disconnected.",
    )

    picture_images: int = Field(
        default=PICTURE_IMAGES, ge=0, description="Images of an audit whose maps are drawn, from the first; 0 for none."
    )

    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="Where workers compute.")
    workers: int = Field(default=1, ge=1, le=64, description="Workers that `auditcore serve` starts.")
    threads: int | None = Field(
        default=None,
        ge=1,
        description="CPU threads of a worker. If unset, the processors that it may use, by affinity and by the quota "
        "of its container, divided by `workers`.",
    )
    micro_batch: int | None = Field(
        default=None,
        ge=1,
        description="Images that pass through a model at once; measured if unset. Set it where identical "
        "machines must give the same bytes: scores of different sizes differ by rounding.",
    )
    memory_bytes: int | None = Field(
        default=None,
        ge=2**30,
        description="Memory that a worker on the CPU may take. What needs more fails with `memory_exhausted`, and the "
        "worker goes on. If unset, nine tenths of the memory of the machine or container, divided by `workers`.",
    )
    sandbox: Literal["auto", "required", "off"] = Field(
        default="auto",
        description="Whether the kernel (landlock, seccomp) keeps code of models from files, networks and processes "
        "that computing does not need. `auto`: as far as the kernel can; `required`: without it no worker starts; "
        "`off`: never.",
    )
    compute_environment: tuple[str, ...] = Field(
        default=(),
        description="Names of further environment variables that code of models may see; none with a secret.",
    )
    cached_models: int = Field(
        default=2, ge=1, description="Models a worker keeps in memory, or as many as a shard compares."
    )

    # 60 s: shorter shards spend more of their time on scheduling, longer ones lose more when a worker dies
    shard_target_s: Seconds = Field(default=60.0, description="Intended length of a shard.")
    # the demo model (EfficientNet-Lite0, 224 px) forwards 55 images per second on two busy CPU cores, in batches of 32;
    # a GPU fleet sets its own
    passes_per_s: Seconds = Field(
        default=120.0,
        description="Forward passes per second, assumed of a model of 224 x 224 pixels that no worker has "
        "run yet; models of larger images are slower by their pixels.",
    )
    budget_s: Seconds | None = Field(
        default=None, description="Audits estimated at more seconds of workers are refused; none if unset."
    )
    budget_passes: int | None = Field(
        default=None, ge=1, description="Audits estimated at more forward passes are refused; none if unset."
    )
    # a limit protects tenants from each other, so a service with one tenant needs none
    requests_per_minute: int | None = Field(
        default=None, ge=1, description="Requests that a tenant may send in a minute; no limit if unset."
    )
    principal_requests_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="Requests that one key or user of a tenant may send in a minute; no limit if unset.",
    )
    failed_authentications_per_minute: int | None = Field(
        default=30,
        ge=1,
        description="Requests without valid credentials that a client address may send in a minute. Until the minute "
        "is over, further credentials from there are not looked at, except for those that were accepted before.",
    )
    running_audits: int | None = Field(
        default=None,
        ge=0,
        description="Audits of a tenant that may wait or run at the same time; no limit if unset.",
    )
    passes_per_day: int | None = Field(
        default=None,
        ge=0,
        description="Forward passes, as estimated, of the audits that a tenant submits in a day (UTC); no limit if "
        "unset.",
    )
    stored_bytes: int | None = Field(
        default=None,
        ge=0,
        description="Bytes of image batches and maps that a tenant may store; no limit if unset. `auditcore tenants "
        "set` gives a tenant other limits than these.",
    )
    shard_images: int = Field(
        default=64, ge=1, description="Most images in a shard, however fast the model is; a worker holds their files."
    )

    # One image of the preset `standard` takes 90 s on the demo model and two cores; some models cost 20 times as much.
    shard_limit_s: Seconds = Field(
        default=3600.0, description="A part of a shard that takes longer counts as hung and is ended."
    )
    # A worker extends its lease every quarter of this, so three beats may be lost before another worker takes over.
    lease_s: Seconds = Field(default=30.0, description="How long a silent worker keeps a shard.")
    heartbeat_s: Seconds = Field(
        default=1.0, description="Seconds between two updates of progress; at most a quarter of the lease."
    )
    sweep_s: Seconds = Field(default=5.0, description="Seconds between two searches for lost shards.")
    webhook_poll_s: Seconds = Field(
        default=1.0, description="Seconds between two searches for events that are due to webhooks."
    )
    retention_days: int | None = Field(
        default=None,
        ge=1,
        description="Days after which audits that have ended are deleted, and uploads that no audit has used for as "
        "long; for ever if unset.",
    )
    collect_s: Seconds = Field(
        default=3600.0,
        description="Seconds between two searches for what is kept for too long, and for files that nothing "
        "references.",
    )
    requeue_after_s: Seconds = Field(
        default=30.0, description="Age of an inspection without an answer after which workers are asked again."
    )
    inspection_wait_s: Seconds = Field(
        default=20.0,
        description="How long POST /v1/models:inspect waits for a worker before it returns a partial answer.",
    )
    max_attempts: int = Field(
        default=3,
        ge=1,
        description="How often a shard may fail on its own account before its audit fails, and how often an image may "
        "end the process that computes before it is left out. What the environment causes does not count.",
    )
    # a worker that is lost says nothing, so its shard may be innocent; a machine that loses one often loses several
    max_losses: int = Field(
        default=6,
        ge=1,
        description="How often a shard may lose its worker, without progress between, before its audit fails.",
    )
    patience_s: Seconds = Field(
        default=600.0,
        description="How long something that a request names may be away, such as the server of its model, before the "
        "audit fails.",
    )
    fault_wait_s: Seconds = Field(
        default=2.0,
        le=LONGEST_WAIT_S,
        description="Wait before a shard that failed is tried again. It doubles each time, up to 30 times as long.",
    )
    environment_wait_s: Seconds = Field(
        default=1.0,
        le=LONGEST_WAIT_S,
        description="Wait after the database, the blob store or another part of the environment failed. It doubles "
        "each time, up to 30 times as long.",
    )
    checkpoint_s: Seconds = Field(
        default=60.0, description="Work after which the images of a shard that are done are stored as a result."
    )
    # below the 30 s that Kubernetes grants by default, and compose's stop_grace_period
    drain_s: Seconds = Field(
        default=25.0,
        description="How long a worker that is told to stop may work on, to finish a group of images. Then it hands "
        "the rest of its shard back.",
    )

    log_json: bool | None = Field(
        default=None, description="JSON log lines; unset: unless standard error is a terminal."
    )

    @field_validator("database_url")
    @classmethod
    def _database_is_known(cls, value: SecretStr | None) -> SecretStr | None:
        # the value itself may hold a password, so that no message quotes it
        if value is not None and not re.match(r"(postgres(ql)?|sqlite)(\+\w+)?://", value.get_secret_value()):
            msg = "write postgresql://user:password@host:port/database or sqlite:///path/to/file.db"
            raise ValueError(msg)
        return value

    @field_validator("redis_url")
    @classmethod
    def _queue_is_redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.match(r"(rediss?|unix)://", value.get_secret_value()):
            msg = "write redis://host:port/0, rediss://host:port/0 or unix:///path/to/redis.sock"
            raise ValueError(msg)
        return value

    @field_validator("webhook_prefixes")
    @classmethod
    def _receivers_are_below_a_path(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_prefix_form("webhook_prefixes", value, ("http://", "https://"))

    @field_validator("oidc_issuer")
    @classmethod
    def _issuer_is_trustworthy(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        if info.data.get("authentication") != "required":
            msg = "tokens are looked at only with AUDIT_AUTHENTICATION=required; set it, or remove the issuer"
            raise ValueError(msg)
        parts = urlsplit(value)
        # http would let anybody on the way put other keys in place of the issuer's
        secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
        if not secure or not parts.hostname or parts.query or parts.fragment:
            msg = "write the issuer as https://host/path, without query and fragment"
            raise ValueError(msg)
        return value

    @field_validator("oidc_audience")
    @classmethod
    def _audience_is_named(cls, value: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("oidc_issuer") is not None and not value:
            msg = "an issuer makes tokens for other services too; write what `aud` names in tokens for this one"
            raise ValueError(msg)
        return value

    @field_validator("oidc_granted_scopes")
    @classmethod
    def _grants_have_a_condition(cls, value: tuple[Scope, ...], info: ValidationInfo) -> tuple[Scope, ...]:
        if value and not info.data.get("oidc_required_claims"):
            msg = "this would let everybody in who gets a token of the issuer; say whom with AUDIT_OIDC_REQUIRED_CLAIMS"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _prefixes_end_a_segment(self) -> Self:
        check_prefixes(self)
        return self

    @property
    def limits(self) -> Limits:
        """Limits that are checked before anything is decoded."""
        return Limits(
            image_bytes=self.image_bytes,
            image_pixels=self.image_pixels,
            batch_images=self.batch_images,
            batch_bytes=self.batch_bytes,
            weights_bytes=self.weights_bytes,
        )

    @property
    def access(self) -> AccessRules:
        """What a request may name."""
        return AccessRules(
            factories=self.factories,
            explainers=self.explainers,
            packages=self.packages,
            file_roots=self.file_roots,
            https_prefixes=self.https_prefixes,
            storage_prefixes=self.storage_prefixes,
            server_prefixes=self.server_prefixes,
            token_roots=self.token_roots,
            code_digests=self.code_digests,
            mlflow_tracking_uri=self.mlflow_tracking_uri,
            huggingface_repos=self.huggingface_repos,
            model_keys=self.model_keys,
            limits=self.limits,
        )

    @property
    def database(self) -> str:
        """URL of the database, SQLite below `data_dir` if none is set."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir.absolute() / 'auditcore.db'}"

    @property
    def spool_folder(self) -> Path | None:
        """Where uploads lie until they are stored, so that they need no memory and no second disk.

        It is in the folder of the blobs, since only that may be a volume in a container that cannot write elsewhere.
        None for the folder of the system, where blobs are in an object store.
        """
        folder = self.blobs.removeprefix("file://")
        return None if "://" in folder else Path(folder) / "uploads"

    @property
    def blobs(self) -> str:
        """URL of the blob store for fsspec, a folder below `data_dir` if none is set."""
        return self.blob_url if self.blob_url is not None else f"file://{self.data_dir.absolute() / 'blobs'}"

    @property
    def redis(self) -> str:
        """URL of the queue.

        Raises:
            ValueError: None is set.
        """
        if self.redis_url is None:
            msg = (
                "no queue is set: set AUDIT_REDIS_URL, or set AUDIT_QUEUE=database so that workers ask the database, "
                "or run `auditcore serve`, which brings its own"
            )
            raise ValueError(msg)
        return self.redis_url.get_secret_value()

    @property
    def part_limit_s(self) -> float:
        """When a part of a shard is ended by its worker, because what computes it did not keep `shard_limit_s`.

        The process that computes keeps it itself, from the moment at which it is ready. That it starts slowly on a busy
        machine is no fault of the model.
        """
        return 1.1 * self.shard_limit_s + COMPUTE_START_S

    @property
    def ticket_limit_s(self) -> float:
        """When the process of a worker is killed by its parent, because it did not end itself.

        It works for half of `shard_limit_s` from one part of a shard to the next, and each part may take the whole.
        """
        return 2 * self.part_limit_s + self.drain_s

    @property
    def fault_backoff(self) -> Backoff:
        """Waits after faults of a shard."""
        return Backoff(self.fault_wait_s, 30 * self.fault_wait_s)

    @property
    def environment_backoff(self) -> Backoff:
        """Waits after failures of the environment."""
        return Backoff(self.environment_wait_s, 30 * self.environment_wait_s)

    @property
    def visibility_timeout_s(self) -> float:
        """When Redis hands an unacknowledged shard to another worker: long after it would have been killed.

        With a 20 s task and a timeout of 8 s Celery 5.7 executed the task repeatedly, in parallel. A long timeout costs
        nothing here: shards of dead workers come back through their leases, not through Redis.
        """
        return 2 * self.ticket_limit_s

    @property
    def collection_grace_s(self) -> float:
        """Least age of a file that is collected: the longest time from storing bytes to the row that references them.

        A worker stores pictures while it computes a shard, and lists them at its end.
        """
        return max(3600.0, 2 * self.shard_limit_s)

    @property
    def beat_s(self) -> float:
        """Seconds between two heartbeats of a worker."""
        return min(self.heartbeat_s, self.lease_s / 4)

    def with_absolute_paths(self) -> Self:
        """The same settings for a process that is about to change its working folder."""
        changes: dict[str, object] = {
            "data_dir": self.data_dir.absolute(),
            "file_roots": tuple(root.absolute() for root in self.file_roots),
            "token_roots": tuple(root.absolute() for root in self.token_roots),
            "model_keys": tuple(file.absolute() for file in self.model_keys),
        }
        if self.signing_key is not None:
            changes["signing_key"] = self.signing_key.absolute()
        if self.database_url is not None:
            changes["database_url"] = SecretStr(_absolute(self.database_url.get_secret_value()))
        if self.blob_url is not None:
            changes["blob_url"] = _absolute(self.blob_url)
        if self.mlflow_tracking_uri is not None:
            changes["mlflow_tracking_uri"] = _absolute(self.mlflow_tracking_uri)
        return self.model_copy(update=changes)

    def __hash__(self) -> int:
        """Equal settings have equal hashes; a worker keeps what it has built for them."""
        return hash(frozenset(self.environment().items()))

    def environment(self) -> dict[str, str]:
        """The same settings as environment variables, for a child process."""
        variables: dict[str, str] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, SecretStr):
                value = value.get_secret_value()
            elif isinstance(value, tuple):
                value = json.dumps([str(item) for item in value])
            elif isinstance(value, dict):
                value = json.dumps(value)
            variables[f"AUDIT_{name.upper()}"] = str(value)
        return variables


def is_loopback(host: str) -> bool:
    """Whether an address, or the name `localhost`, can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def unknown_variables(environment: Iterable[str]) -> Mapping[str, str | None]:
    """Names that begin with `AUDIT_` and are no settings, with the most similar setting, or None if none is similar.

    Args:
        environment: Names of environment variables.
    """
    known = sorted({name.upper() for name in Settings.model_fields} | _CLIENT_VARIABLES)
    found: dict[str, str | None] = {}
    for name in sorted(environment):
        prefix, bare = name[:6].upper(), name[6:].upper()
        if prefix == "AUDIT_" and bare not in known:
            nearest = difflib.get_close_matches(bare, known, n=1, cutoff=_NEAR)
            found[name] = f"AUDIT_{nearest[0]}" if nearest else None
    return found


def _absolute(url: str) -> str:
    """The same URL; one that names a file below the working folder gets the path from the root."""
    found = _RELATIVE.fullmatch(url)
    return url if found is None else f"{found['start']}{Path(found['path']).absolute()}"
