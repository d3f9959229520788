"""Where are the hosts of an SSH target, what may a certificate for each entitlement say, and who has to confirm its end?"""

import ipaddress
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from jitaccess.connectors.contract import KindConfig, SecretName
from jitaccess.connectors.ssh_ca.wire import ED25519, BadWire, Reader, blob_of_line, line_of

HostName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$")]
"""A name or IPv4 address, as people and `ssh` write it."""
AccountName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]
"""An account on the hosts."""
Principal = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
"""No comma, space, star or slash: what joins or widens lists of principals can never be signed (CVE-2026-35414, CVE-2024-7594)."""
ForceCommand = Annotated[str, StringConstraints(pattern=r"^[ -~]*$", max_length=500)]
Extension = Literal[
    "permit-pty", "permit-port-forwarding", "permit-agent-forwarding", "permit-X11-forwarding", "permit-user-rc"
]
DAY_S = 86_400


def _ed25519_line(text: str) -> str:
    """Return a public key's line without its comment; for settings, where only plain keys of Ed25519 are taken, no certificates."""
    try:
        blob = blob_of_line(text)
        reader = Reader(blob)
        if reader.string() == ED25519 and len(reader.string()) == 32:
            reader.end()
            return line_of(blob)
    except BadWire:
        pass
    raise ValueError("a public key of Ed25519 as one line of OpenSSH, ssh-ed25519 AAAA...")


def _network(text: str) -> str:
    return str(ipaddress.ip_network(text))


PublicKey = Annotated[str, StringConstraints(max_length=200), AfterValidator(_ed25519_line)]
Network = Annotated[str, StringConstraints(max_length=50), AfterValidator(_network)]


class SshMeaning(KindConfig):
    """What an entitlement is: one principal, the account on the hosts that takes it, and what the certificate allows."""

    principal: Principal
    account: AccountName
    hosts: list[HostName] = Field(default=[], max_length=1000)
    """On which hosts of the target; empty: on all. No other host is told of its certificates. What a host takes as which account its own
    list of principals says as well."""
    extensions: list[Extension] = Field(default=[], max_length=5)
    """What a session may do beyond running a command; nothing, unless it stands here."""
    force_command: ForceCommand = ""
    source_address: list[Network] = Field(default=[], max_length=20)
    hardware_key: bool = False
    """Only keys that live in a security key."""
    verify_required: bool = False
    """The security key must have checked its owner (PIN or finger) at every login; needs `hardware_key`."""

    @model_validator(mode="after")
    def _verified(self) -> "SshMeaning":
        if self.verify_required and not self.hardware_key:
            raise ValueError("`verify_required` needs `hardware_key`: other keys cannot check their owner")
        return self


class SshHost(KindConfig):
    """One host. Its key is known here, so that people reach it and no other, and so that its reports are its own."""

    name: HostName
    port: int = Field(default=22, ge=1, le=65535)
    key: PublicKey
    """The host's Ed25519 key: the content of /etc/ssh/ssh_host_ed25519_key.pub."""


class SshCaConfig(KindConfig):
    """The hosts that trust one authority."""

    kind: Literal["ssh_ca"]
    secret: SecretName
    """A file with a secret from which the authority's key is derived, or with its Ed25519 private key as OpenSSH writes it."""
    hosts: list[SshHost] = Field(min_length=1, max_length=1000)
    confirm: Literal["hosts", "none"] = "hosts"
    """`hosts`: an end is proven when every host has said so; `none`: it is published, and the proof says no more than that."""
    silent_after_s: int = Field(default=60, ge=2, le=DAY_S)
    """A host without a report for so long is reported as silent, and nothing waits for it."""
    host_ca: list[PublicKey] = Field(default=[], max_length=4)
    """Authorities of host certificates, where the hosts have such; else their keys stand in the known_hosts that people get."""
    entitlements: dict[str, SshMeaning]

    @model_validator(mode="after")
    def _whole(self) -> "SshCaConfig":
        names = [host.name for host in self.hosts]
        if len(set(names)) != len(names):
            raise ValueError("a host stands there twice")
        for meaning in self.entitlements.values():
            if unknown := set(meaning.hosts) - set(names):
                raise ValueError(f"unknown host {min(unknown)}")
        return self

    def hosts_of(self, entitlement: str) -> list[SshHost]:
        """Return the hosts that an entitlement is for."""
        wanted = self.entitlements[entitlement].hosts
        return [host for host in self.hosts if not wanted or host.name in wanted]
