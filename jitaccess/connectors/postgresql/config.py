"""What may stand in a policy about a PostgreSQL server."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from jitaccess.connectors.contract import KindConfig, SecretName

Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_][a-zA-Z0-9_$-]{0,62}$")]
"""A role or database. PostgreSQL cuts names at 63 bytes, so that two longer ones would be the same."""
Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:/-]{1,253}$")]
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Meaning(KindConfig):
    """What an entitlement is on a PostgreSQL server: membership in these roles."""

    roles: list[Name] = Field(min_length=1, max_length=20)
    connection_limit: int = Field(default=8, ge=1, le=1000)
    set_role: bool = False
    """True: people may `SET ROLE` to these roles, and so leave things behind as theirs.

    Without it roles are not lent through which something could be left behind: those that own something, have TRIGGER, a grant option or,
    before version 16, where nobody can be kept from setting a role, may create anything (ADR 58 and 70).
    """


class PostgresqlConfig(KindConfig):
    """Where the server is, how the broker gets in, what each entitlement means."""

    kind: Literal["postgresql"]
    host: Host
    """A name or address, or the folder of a Unix socket."""
    port: int = Field(default=5432, ge=1, le=65535)
    database: Name
    """Where people log in; the broker looks into every database of the server when it cleans."""
    tls: Literal["verify-full", "none"] = "verify-full"
    """`none` only for this very machine: a Unix socket or a loopback address."""
    root_ca: str = Field(default="", max_length=500)
    """File with the certificate authorities that may sign the server's certificate; empty: those of the system."""
    user: Name = "jit_broker"
    secret: SecretName
    quarantine: Name = "jit_quarantine"
    """The rightless role that keeps what people leave behind."""
    password_rounds: int = Field(default=4096, ge=1, le=100_000)
    """How often the server is to hash a password of a lease (SCRAM). Making one costs mostly this, and it protects words that people
    choose, not 256 random bits: with 1 it takes a tenth, but some clients refuse less than 4,096 (ADR 69)."""
    roll_back_prepared: bool = False
    """True where no application prepares transactions as a role that entitlements lend: those are rolled back when a lease ends."""
    entitlements: dict[str, Meaning]

    def lent(self) -> set[str]:
        """Return the roles that entitlements give."""
        return {role for meaning in self.entitlements.values() for role in meaning.roles}

    @model_validator(mode="after")
    def _verified(self) -> "PostgresqlConfig":
        if self.tls == "none" and not self.host.startswith("/") and self.host not in LOOPBACK:
            raise ValueError("`tls: none` is for a Unix socket or a loopback address only")
        return self
