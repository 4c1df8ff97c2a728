"""Hosts that are network namespaces of this machine, on one bridge, with a firewall in each. Needs root and nft.

The kernel may have no `netem`; packets are lost by rules of the firewall, which is what a switch does that drops them.
"""

from __future__ import annotations

import os
import subprocess
from typing import final

SUBNET = "10.231.77"
BRIDGE = "ac-chaos"


@final
class Network:
    """A bridge with hosts, and this machine at its first address.

    Attributes:
        hosts: Name -> address.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.hosts = {name: f"{SUBNET}.{10 + place}" for place, name in enumerate(names)}
        self._namespaces = {name: f"{BRIDGE}-{name}" for name in names}
        self.remove()
        _run("ip", "link", "add", BRIDGE, "type", "bridge")
        _run("ip", "addr", "add", f"{SUBNET}.1/24", "dev", BRIDGE)
        _run("ip", "link", "set", BRIDGE, "up")
        for place, (name, address) in enumerate(self.hosts.items()):
            namespace, cable = self._namespaces[name], f"acc{place}"
            _run("ip", "netns", "add", namespace)
            _run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", namespace)
            _run("ip", "link", "set", cable, "master", BRIDGE, "up")
            for command in (
                ("addr", "add", f"{address}/24", "dev", "eth0"),
                ("link", "set", "eth0", "up"),
                ("link", "set", "lo", "up"),
            ):
                _run("ip", "-n", namespace, *command)
            self._nft(name, "add table inet chaos")
            for hook in ("input", "output"):
                self._nft(name, f"add chain inet chaos {hook} {{ type filter hook {hook} priority 0; policy accept; }}")

    def on(self, name: str) -> tuple[str, ...]:
        """What starts a program on a host."""
        return ("ip", "netns", "exec", self._namespaces[name])

    def cut(self, one: str, other: str) -> None:
        """Drop every packet between two hosts; neither end is told."""
        self.cut_one_way(one, other)
        self.cut_one_way(other, one)

    def cut_one_way(self, sender: str, receiver: str) -> None:
        """Drop the packets from one host to another, and not those back."""
        self._nft(sender, f"add rule inet chaos output ip daddr {self.hosts[receiver]} drop")

    def lose(self, name: str, *, percent: int) -> None:
        """Drop this share of the packets of a host, at random, in and out."""
        for hook in ("input", "output"):
            device = "iifname" if hook == "input" else "oifname"
            self._nft(name, f'add rule inet chaos {hook} {device} != "lo" numgen random mod 100 < {percent} drop')

    def heal(self) -> None:
        for name in self.hosts:
            for hook in ("input", "output"):
                self._nft(name, f"flush chain inet chaos {hook}")

    def remove(self) -> None:
        """Remove what is there, of an earlier run too."""
        for namespace in self._namespaces.values():
            _run("ip", "netns", "del", namespace, check=False)
        _run("ip", "link", "del", BRIDGE, check=False)

    def _nft(self, name: str, rule: str) -> None:
        _run("ip", "netns", "exec", self._namespaces[name], "nft", rule)


def can_make_networks() -> bool:
    """Whether this process may make network namespaces with firewalls."""
    if os.getuid() != 0:
        return False
    try:
        network = Network(("probe",))
    except (OSError, subprocess.CalledProcessError):
        return False
    network.remove()
    return True


def _run(*command: str, check: bool = True) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if check and done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
