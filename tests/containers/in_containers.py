"""The compose file in real containers: what they may do, what they cannot, and that kills lose nothing.

`make containers` runs it. `make test` does not: the name of this file keeps pytest from finding it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from typing import Any

import pytest

from running_containers import OURS, ROOT, SERVICES, Deployment, engine

MIB = 2**20
COMPOSE_MEMORY = {"gateway": 1024 * MIB, "worker": 6144 * MIB, "postgres": 2048 * MIB, "redis": 1024 * MIB}
COMPOSE_PIDS = {"gateway": 256, "worker": 1024, "postgres": 256, "redis": 64}
GRACE_S = {"gateway": 30, "worker": 60, "postgres": 60, "redis": 30}

MAIN_PROCESS = """
import os, pathlib, signal
for status in pathlib.Path('/proc').glob('[0-9]*/status'):
    if 'PPid:\\t1\\n' in status.read_text():
        lines = (status.parent / 'cmdline').read_bytes().split(b'\\0')
        if any(b'auditcore' in word for word in lines):
            os.kill(int(status.parent.name), signal.SIGKILL)
"""
"""Kills what the init process of a container started; the init itself cannot be killed from inside."""


@pytest.fixture(scope="session")
def undisturbed(deployment: Deployment) -> list[tuple[Any, ...]]:
    """Scores of an audit during which nothing was killed."""
    audit = deployment.submit()
    ended = deployment.wait_for(audit, {"succeeded", "failed"})
    assert ended["state"] == "succeeded", ended
    return deployment.scores(audit)


def status(deployment: Deployment, service: str) -> dict[str, str]:
    """/proc/1/status of a container."""
    text = deployment.run_in(service, "cat", "/proc/1/status").stdout
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def test_an_audit_over_http_succeeds(undisturbed: list[tuple[Any, ...]]) -> None:
    assert {row[1] for row in undisturbed} >= {"gradient", "grad_cam"}
    assert any(row[2] == "inter_model_deletion" and row[4] is not None for row in undisturbed)


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_has_no_rights(deployment: Deployment, service: str) -> None:
    found = status(deployment, service)
    user = "10001" if service in OURS else "999"
    assert set(found["Uid"].split()) == {user}
    assert set(found["Gid"].split()) == {user}
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(found[kind], 16) == 0
    assert found["NoNewPrivs"] == "1"
    assert found["Seccomp"] == "2"


@pytest.mark.parametrize("service", SERVICES)
def test_nothing_can_be_written_outside_volumes(deployment: Deployment, service: str) -> None:
    for folder in ("/", "/usr/bin", "/etc", "/var/lib", *(["/app", "/app/auditcore"] if service in OURS else [])):
        done = deployment.run_in(service, "sh", "-c", f"echo x > {folder}/written", check=False)
        assert done.returncode != 0
        assert re.search("Read-only file system|Permission denied", done.stderr), done.stderr
    root = next(
        line.split()
        for line in deployment.run_in(service, "cat", "/proc/1/mounts").stdout.splitlines()
        if " / " in line
    )
    assert "ro" in root[3].split(",")


@pytest.mark.parametrize("service", OURS)
def test_temporary_files_are_limited_and_cannot_be_run(deployment: Deployment, service: str) -> None:
    mounts = deployment.run_in(service, "cat", "/proc/1/mounts").stdout.splitlines()
    options = next(line.split()[3].split(",") for line in mounts if line.split()[1] == "/tmp")  # noqa: S108
    assert {"noexec", "nosuid", "nodev"} <= set(options)
    assert f"size={6 * 2**20}k" in options
    script = "cp /usr/bin/true /tmp/t; /tmp/t; code=$?; rm /tmp/t; exit $code"
    assert deployment.run_in(service, "sh", "-c", script, check=False).returncode == 126


@pytest.mark.parametrize("service", SERVICES)
def test_limits_are_in_force(deployment: Deployment, service: str) -> None:
    script = """
for file in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do
  [ -f $file ] && cat $file; done
for file in /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max; do [ -f $file ] && cat $file; done; true"""
    memory, pids = deployment.run_in(service, "sh", "-c", script).stdout.split()
    assert int(memory) == COMPOSE_MEMORY[service]
    assert int(pids) == COMPOSE_PIDS[service]


def test_a_process_that_takes_too_much_memory_is_killed_and_the_gateway_goes_on(deployment: Deployment) -> None:
    before = deployment.inspect("gateway")["State"]["StartedAt"]
    done = deployment.python_in("gateway", "b = bytearray(2 * 2**30); print(len(b))", check=False)
    assert done.returncode == 137, done
    deployment.wait_until_healthy("gateway")
    assert deployment.inspect("gateway")["State"]["StartedAt"] == before


def test_processes_beyond_the_limit_are_refused(deployment: Deployment) -> None:
    code = """
import subprocess
started = []
try:
    while len(started) < 300:
        started.append(subprocess.Popen(['sleep', '60']))
except OSError as error:
    print(error.errno)
finally:
    for process in started:
        process.kill()
"""
    done = deployment.python_in("gateway", code)
    assert done.stdout.split() == ["11"]  # EAGAIN
    deployment.wait_until_healthy("gateway")


def test_a_worker_reaches_its_database_and_nothing_outside(deployment: Deployment) -> None:
    code = """
import json, socket
def reach(host, port):
    try:
        socket.create_connection((host, port), 5).close()
    except OSError as error:
        return type(error).__name__
    return 'reached'
routes = [line.split()[1] for line in open('/proc/net/route').read().splitlines()[1:]]
print(json.dumps({
    'postgres': reach('postgres', 5432), 'redis': reach('redis', 6379), 'address': reach('1.1.1.1', 443),
    'metadata': reach('169.254.169.254', 80),
    'name': reach('www.debian.org', 443), 'default route': '00000000' in routes}))
"""
    found = json.loads(deployment.python_in("worker", code).stdout)
    assert found.pop("postgres") == "reached"
    assert found.pop("redis") == "reached"
    assert found.pop("default route") is False
    assert "reached" not in found.values()
    # the gateway, which fetches models, has a way out: the check above can fail
    assert json.loads(deployment.python_in("gateway", code).stdout)["default route"] is True


def test_a_worker_has_no_signing_key_and_no_variable_that_is_not_meant_for_it(deployment: Deployment) -> None:
    code = "import os, json, pathlib; print(json.dumps([sorted(os.environ), pathlib.Path('/run/secrets').exists()]))"
    variables, has_secrets = json.loads(deployment.python_in("worker", code).stdout)
    assert {name for name in variables if name.startswith("AUDIT_")} == {
        "AUDIT_DATABASE_URL",
        "AUDIT_REDIS_URL",
        "AUDIT_BLOB_URL",
        "AUDIT_LOG_JSON",
        "AUDIT_SHARD_IMAGES",
        "AUDIT_LEASE_S",
        "AUDIT_SWEEP_S",
        "AUDIT_REQUEUE_AFTER_S",
        "AUDIT_MICRO_BATCH",
    }
    assert not any(re.search("PASSWORD|SECRET|TOKEN|KEY", name) for name in variables if name != "GPG_KEY")
    assert has_secrets is False
    assert deployment.run_in("gateway", "head", "-n", "1", "/run/secrets/signing_key").stdout.startswith("-----BEGIN")
    for service in ("postgres", "redis"):
        assert deployment.run_in(service, "test", "-e", "/run/secrets/signing_key", check=False).returncode == 1


# without an init, the only process of a container is its first, which cannot be killed from inside
@pytest.mark.parametrize(
    ("service", "how"),
    [(name, "process") for name in OURS] + [(name, "container") for name in SERVICES],
)
def test_a_kill_loses_nothing(
    deployment: Deployment, undisturbed: list[tuple[Any, ...]], service: str, how: str
) -> None:
    audit = deployment.submit()
    deployment.wait_for(audit, {"running"})
    if how == "process":
        restarts = deployment.inspect(service)["RestartCount"]
        deployment.python_in(service, MAIN_PROCESS, check=False)
        deadline = time.monotonic() + 60
        while deployment.inspect(service)["RestartCount"] == restarts:
            assert time.monotonic() < deadline, f"{service} is not started again"
            time.sleep(0.5)
    else:
        engine("kill", "--signal", "KILL", deployment.container(service))
        time.sleep(2)
        assert deployment.state(audit).get("state") != "failed"
        engine("start", deployment.container(service))
    ended = deployment.wait_for(audit, {"succeeded", "failed"})
    assert ended["state"] == "succeeded", ended
    assert deployment.scores(audit) == undisturbed
    for name in SERVICES:
        deployment.wait_until_healthy(name)


@pytest.mark.parametrize("image", ["auditcore-gateway", "auditcore-worker-cpu"])
def test_an_image_says_what_it_is_and_what_is_in_it(deployment: Deployment, image: str) -> None:
    del deployment
    labels = json.loads(engine("image", "inspect", image).stdout)[0]["Config"]["Labels"]
    for name in ("title", "description", "licenses", "source", "version", "revision", "created"):
        assert labels[f"org.opencontainers.image.{name}"]
    out = ROOT / f"build/images/{image}.cdx.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    # it checks the file against the schema
    subprocess.run([sys.executable, ROOT / "docker/sbom.py", image, "--out", out], check=True)
    components = {part["name"] for part in json.loads(out.read_text())["components"]}
    assert {"auditcore", "pydantic", "libc6"} <= components
    assert ("torch" in components) == ("worker" in image)
    if image == "auditcore-worker-cpu":
        assert int(engine("image", "inspect", "--format", "{{.Size}}", image).stdout) < 3_000_000_000


@pytest.mark.parametrize("service", SERVICES)
def test_no_file_of_an_image_was_changed(deployment: Deployment, service: str) -> None:
    changed = [line.split(maxsplit=1) for line in engine("diff", deployment.container(service)).stdout.splitlines()]
    # folders and files that the engine itself mounts, or makes as places to mount
    mounts = {mount["Destination"] for mount in deployment.inspect(service)["Mounts"]}
    mounts |= {"/dev", "/proc", "/sys", "/etc", "/run", "/tmp", "/catatonit"}  # noqa: S108 - what is mounted
    beyond = [
        path
        for _, path in changed
        if not any(path == m or path.startswith(f"{m}/") or m.startswith(f"{path}/") for m in mounts)
    ]
    assert beyond == []


def test_everything_stops_within_its_grace(deployment: Deployment) -> None:
    """An audit is under way; each container ends by itself, and the audit goes on after the start."""
    audit = deployment.submit(seed=8)
    deployment.wait_for(audit, {"running"})
    for service in ("worker", "gateway", "redis", "postgres"):
        begin = time.monotonic()
        engine("stop", "--time", str(GRACE_S[service]), deployment.container(service))
        assert time.monotonic() - begin < GRACE_S[service]
        assert deployment.inspect(service)["State"]["ExitCode"] != 137, f"{service} had to be killed"
    for service in ("postgres", "redis", "gateway", "worker"):
        engine("start", deployment.container(service))
        deployment.wait_until_healthy(service)
    assert deployment.wait_for(audit, {"succeeded", "failed"})["state"] == "succeeded"
