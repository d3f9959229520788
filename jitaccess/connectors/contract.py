"""How does one kind of target apply, cut and clean an effect? The contract of a connector (design.md section 6).

A connector knows neither the store nor the log nor the broker nor the clock; it gets a plan and does it. `apply` may succeed, raise
`NotDone`, which *proves* that nothing was made, or be uncertain (anything else). It must not take effect after its deadline. `cut` ends
login and sessions and reads back; `clean` neutralises what is left, deletes and reads back; "absent" is success only on the
target's own word. Every verb may be repeated. No secret ever stands in an error text: what is raised is seen by people.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Protocol, cast, runtime_checkable

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from jitaccess.proof.canonical import JsonValue

SecretName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
"""Names a file of the folder `targets.secrets_dir`; the secret itself never stands in a policy."""
ACCOUNT_PREFIX = "jit-"
ID_LENGTH = 26
ID_CHARACTERS = frozenset("0123456789abcdefghijklmnopqrstuv")


class EnforcesExpiry(StrEnum):
    """What the target ends by itself when the broker is dead; shown to people."""

    NOTHING = "nothing"
    LOGINS = "logins"
    LOGINS_AND_SESSIONS = "logins_and_sessions"


class NotDone(Exception):
    """Proof that a target call made nothing; any other error leaves it uncertain."""


class NotReady(NotDone):
    """Nothing was made, and trying again does not help: the target's owner has to put something right, which `probe` names."""


class Unreachable(Exception):
    """The target cannot be reached now: no call of a batch was begun, and trying single ones would not help."""


class CallFailed(Exception):
    """The target answered, but not as it must: what was asked may have been done. `code` is a short word of ours, fit for the record."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Unusable(Exception):
    """What the person gave (a public key) cannot be used; the text is one plain sentence for them."""


class Secret:
    """A value that never shows itself."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value; for the one place that hands it over."""
        return self._value

    def __repr__(self) -> str:
        """Return stars."""
        return "***"


class KindConfig(BaseModel):
    """Base of the configuration of one target: what stands under `connector` in a policy file. Unknown keys are refused.

    Give `kind` as a `Literal`. Where the kind needs to know what each entitlement means, add the field `entitlements`, a mapping by
    entitlement: the loader checks that its keys are exactly the target's. Use lists and plain text, no sets, tuples or paths.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@dataclass(frozen=True, slots=True)
class Report:
    """What a host of a target said of itself: kept as it came, so that its signature can be checked at every use."""

    text: str
    signature: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Posted:
    """One consistent look at a board."""

    at: datetime
    """The broker's time."""
    number: int
    """Rises with every change, and past what an older backup would give: never below the microseconds since the epoch of the change."""
    entries: Mapping[str, Mapping[str, JsonValue]]
    """Name -> value of what was posted and is still to be kept."""
    broken: frozenset[str]
    """Names whose entry somebody changed past the broker: its value is not given."""
    reports: Mapping[str, Report]
    """Host -> its newest report."""


class Board(Protocol):
    """What a connector posts for hosts that come and fetch it, and what they report: kept by the broker, the same for all processes."""

    @property
    def target(self) -> str:
        """The target's name in the policy."""
        ...

    def read(self) -> Posted:
        """Return everything."""
        ...

    def post(
        self,
        entries: Mapping[str, tuple[Mapping[str, JsonValue], datetime | None]],
        *,
        only_before: datetime | None = None,
    ) -> int:
        """Put entries (value, and until when it is to be kept; None: for ever) on the board at once; return the new number.

        With `only_before` nothing is posted, and NotDone raised, when the broker's time is past it or one of the names was ever used.
        """
        ...

    def take(self, host: str, sequence: int, report: tuple[str, str]) -> bool:
        """Keep a report (text, signature) that the connector has checked; False when it is not newer than the one that is there."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a connector is given of the world."""

    secrets: Callable[[str], Sequence[Secret]]
    """Secret's name -> what may be valid now, most likely first: two values while one of the broker's own secrets is being exchanged."""
    draw: Callable[[], str]
    """Return a fresh secret: 256 random bits as 43 characters of base64url."""
    now: Callable[[], datetime]
    """Return the broker's time, for what has to be signed, and to see whether the target's clock differs; that one judges a deadline."""
    board: Board | None = None
    """The board of this target; only kinds with `publishes` need one."""


@dataclass(frozen=True, slots=True)
class Given:
    """Something that the person hands in when opening, for instance a public key."""

    name: str
    label: str
    max_length: int = 8_000


@dataclass(frozen=True, slots=True)
class LeaseSpec:
    """What a lease is about, for planning its effect."""

    lease_id: str
    person_id: str
    target: str
    entitlement: str
    starts_at: datetime
    ends_at: datetime
    given: Mapping[str, str] = field(default_factory=dict)
    """What the person handed in, by `Given.name`; each connector checks it."""
    email: str = ""
    """The person's mail address in the register: for kinds that look for an entry of the person's own."""
    found: Mapping[str, JsonValue] = field(default_factory=dict)
    """What `Looking.look` said a moment before the plan; empty for kinds that do not look."""
    beside: "Effect | None" = None
    """Of a shared kind: the effect of a live lease that names the same thing."""

    @property
    def account(self) -> str:
        """Return the name of the account that is made for this lease: 30 characters, no text of a person, never used again (R48)."""
        return f"{ACCOUNT_PREFIX}{self.lease_id}"


def is_own_account(name: str) -> bool:
    """Say whether a name on a target has the form of an account that a lease makes."""
    rest = name.removeprefix(ACCOUNT_PREFIX)
    return len(rest) == ID_LENGTH == len(name) - len(ACCOUNT_PREFIX) and ID_CHARACTERS.issuperset(rest)


@dataclass(frozen=True, slots=True)
class Effect:
    """What a lease puts on a target: planned and committed before it is applied."""

    kind: str
    name: str
    """The account, membership or serial; `jit-` and the lease id where an account is made."""
    detail: Mapping[str, JsonValue] = field(default_factory=dict)

    def to_json(self) -> dict[str, JsonValue]:
        """Return the effect as it is stored with its lease."""
        return {"kind": self.kind, "name": self.name, "detail": dict(self.detail)}

    @classmethod
    def from_json(cls, value: JsonValue) -> "Effect":
        """Read `to_json`."""
        found = cast("dict[str, JsonValue]", value)
        return cls(str(found["kind"]), str(found["name"]), cast("dict[str, JsonValue]", found["detail"]))


@dataclass(frozen=True, slots=True)
class Credential:
    """What the person gets, shown once."""

    secret: Secret | None = None
    username: str = ""
    command: str = ""
    """Ready to paste; never holds the secret, which would stand in the shell's history and the process list."""
    files: Mapping[str, Secret] = field(default_factory=dict)
    """File name -> text, for what has to be saved (a certificate)."""
    note: str = ""
    """One plain sentence on how to use it: `told`, so that the page can say it in the reader's language."""
    handle: Mapping[str, JsonValue] = field(default_factory=dict)
    """What the target knows the account by, beside its name, which somebody may change: joins the effect's `detail`, under its seal."""


@dataclass(frozen=True, slots=True)
class Account:
    """One account as a target shows it, or as a live lease explains it."""

    name: str
    rights: frozenset[str] = frozenset()
    """Attributes, memberships and grants in the target's own words, e.g. `SUPERUSER`, `member of app_read`."""
    sessions: int = 0
    enabled: bool = True
    """Whether anybody can log in with it."""
    expires_at: datetime | None = None
    """The target's own end of it, None where there is none."""
    fingerprint: str = ""
    """Changes when what proves its owner (password, key) changes; a digest, never anything to log in with. Empty: not known.

    It may have parts, `made=… login=yes key=…`: which account of this name it is, whether anybody can log in with it, and what proves
    its owner. Only parts that two looks both saw are compared.
    """
    owns: frozenset[str] = frozenset()
    """Objects it owns, in the target's own words."""
    number: str = ""
    """Which account it is, whatever it is called: what the target gave it at its birth. Empty: not known."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is on a target, and which of it this kind can see."""

    accounts: Mapping[str, Account]
    coverage: frozenset[str]
    """What was compared (`accounts`, `memberships`, ...), so that nobody takes silence for a look."""
    own: str = ""
    """The broker's own account."""
    helpers: frozenset[str] = frozenset()
    """What `targets setup` made beside it, which nobody can log in with: only rights beyond those that were known are a finding."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """What came of locking or removing an account that nothing explains."""

    done: bool
    statement: str = ""
    """The exact statement that the target's owner still has to run; where `done`, the account is locked but not gone."""


Proofs = Mapping[str, Mapping[str, JsonValue]]
"""Effect's name -> what the target said when it was read back."""


class Connector(Protocol):
    """One target. `open` of its kind makes it without any call to the target; it may be used by several threads at once."""

    def probe(self) -> tuple[str, ...]:
        """Return what is wrong, or too mighty, about the broker's own access; empty when all is well."""
        ...

    def plan(self, spec: LeaseSpec) -> Effect:
        """Return the effect of a lease; pure. Raises Unusable."""
        ...

    def apply(self, effect: Effect, deadline: datetime) -> Credential:
        """Put the effect on the target; cannot take effect after the deadline. Raises NotDone, or is uncertain."""
        ...

    def bury(self, effect: Effect) -> None:
        """Take the name of an effect whose `apply` was uncertain (a locked account without rights), so that a late birth fails."""
        ...

    def cut(self, effects: Sequence[Effect]) -> Proofs:
        """End login and sessions of all these effects and read back; return a proof for each, or raise.

        Where it failed for some only, the others' proofs are returned: nobody waits for another, and one without proof has failed.
        """
        ...

    def clean(self, effects: Sequence[Effect]) -> Proofs:
        """Neutralise what is left of all these effects, delete, read back; return a proof for each, or raise, as `cut` does."""
        ...

    def expects(self, effect: Effect, ends_at: datetime) -> Account:
        """Return the account as it may look while this lease lives; pure. More than this is a finding."""
        ...

    def observe(self) -> Inventory:
        """Return what is on the target."""
        ...

    def quarantine(self, account: str, *, remove: bool) -> Quarantined:
        """Lock an account that nothing explains and end its sessions; `remove`: delete it."""
        ...

    def rotate_own(self, old: Secret, new: Secret) -> None:
        """Change the broker's own credential on the target; safe to repeat after a crash."""
        ...

    def close(self) -> None:
        """Give connections back."""
        ...


class Looking(Connector, Protocol):
    """A connector that has to see the target before it can plan (ADR 32)."""

    def look(self, spec: LeaseSpec) -> Mapping[str, JsonValue]:
        """Return what the plan needs to know; changes nothing. `spec.lease_id` is empty. Raises Unusable and Unreachable."""
        ...


@runtime_checkable
class Undoing(Protocol):
    """A connector that knows with which statement the target's owner takes single rights back."""

    def undoing(self, account: str, rights: Sequence[str]) -> str:
        """Return the exact statements, a line each, that take these rights (in the words of `observe`) from an account; changes nothing."""
        ...


class Publisher(Protocol):
    """What the connector of a kind with `publishes` answers when a host of its target comes."""

    def exchange(self, report: str, signature: str) -> tuple[str, str]:
        """Check and keep a host's signed report; return what it has to obey, and the signature over that. Raises Unusable, Unreachable."""
        ...

    def public_keys(self) -> Sequence[str]:
        """Return the public keys that hosts trust, as OpenSSH lines, the one in use first; raises Unreachable."""
        ...


@dataclass(frozen=True, slots=True)
class ConnectorKind:
    """One kind of target; every connector file ends in one, named `KIND`."""

    name: str
    config: type[BaseModel]
    open: Callable[[Any, Surroundings], Connector]
    """Checked configuration and surroundings -> connector; no call to the target, no reading of secrets yet."""
    setup: Callable[[Any], str]
    """Configuration, or None for an example -> the exact lines that give the broker its least privileges there."""
    enforces_expiry: EnforcesExpiry
    outside: bool = True
    """Whether leases put anything on the target at all; tokens do not."""
    shared: bool = False
    """Whether two leases may name the same effect (a membership): the broker then counts them (R56)."""
    gives: tuple[Given, ...] = ()
    """What the person hands in when opening."""
    publishes: bool = False
    """Whether hosts of the target come and fetch (its connectors are a Publisher too), instead of being called."""
    looks: bool = False
    """Whether its connectors are `Looking`: the broker asks them before it plans, and what they say is part of the intent."""
    place: tuple[str, ...] | None = None
    """Keys of the configuration that say where something was made: while a lease lives they stay as they are. None: all keys."""
    grows: tuple[str, ...] = ()
    """Keys of lists to which may be added while a lease lives, and from which nothing may be taken."""
    enforces: Callable[[Mapping[str, JsonValue]], EnforcesExpiry] | None = None
    """Configuration -> what a target with it ends by itself, where that differs within the kind; `enforces_expiry` is the least."""

    def enforced(self, connector: Mapping[str, JsonValue]) -> EnforcesExpiry:
        """Return what a target with this configuration ends by itself."""
        return self.enforces_expiry if self.enforces is None else self.enforces(connector)

    def same_place(self, before: Mapping[str, JsonValue], after: Mapping[str, JsonValue]) -> bool:
        """Say whether what was made with one configuration can be found and ended with another; entitlements are not looked at."""
        try:
            one, two = (self.config.model_validate(dict(found)).model_dump() for found in (before, after))
        except ValidationError:
            return dict(before) == dict(after)
        fixed = ("kind", *self.place) if self.place is not None else {*one, *two} - {"entitlements"}
        still = all(one.get(key) == two.get(key) for key in fixed)
        return still and all(part in two[key] for key in self.grows for part in one[key])
