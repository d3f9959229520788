"""LDAP: membership of a person's existing entry in a group, for one lease (OpenLDAP 2.5 is tested).

Two ways, chosen by `dynamic`. Plain: the person's name is one value of the group's `member`, taken away at the end; the directory ends
nothing by itself. Dynamic (RFC 2589, the `dds` overlay): each lease is a group entry of its own, which the directory deletes when its
time is up, and which the guarded group shows as a member of its own through the `dynlist` overlay.

Directories have no transactions, so a change that gives access asserts (RFC 4528) that the entry is still as it was when the deadline was
checked, by its change number; whatever ends access changes the entry. The time is the directory's own: it stands in the change number.
A membership that was there before the lease is never taken away: whether it was there is part of the intent. The person's
entry is found by the mail address of the register, escaped (RFC 4515). TLS is verified, and no referral is followed.
"""

import base64
import socket
import ssl
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from ssl import SSLContext
from typing import Annotated, Any, Literal, cast
from urllib.parse import quote

from ldap3 import BASE, DEREF_NEVER, LEVEL, MODIFY_ADD, MODIFY_DELETE, MODIFY_REPLACE, NONE, SAFE_SYNC, SUBTREE
from ldap3 import Connection as LdapConnection
from ldap3 import Server as LdapServer
from ldap3.core.exceptions import (
    LDAPAssertionFailedResult,
    LDAPAttributeOrValueExistsResult,
    LDAPBusyResult,
    LDAPEntryAlreadyExistsResult,
    LDAPException,
    LDAPInsufficientAccessRightsResult,
    LDAPNoSuchAttributeResult,
    LDAPNoSuchObjectResult,
    LDAPNotAllowedOnNotLeafResult,
    LDAPOperationResult,
    LDAPOtherResult,
    LDAPUnavailableCriticalExtensionResult,
    LDAPUnavailableResult,
)
from ldap3.core.results import RESULT_SIZE_LIMIT_EXCEEDED, RESULT_SUCCESS
from ldap3.core.tls import Tls
from ldap3.utils.conv import escape_filter_chars
from ldap3.utils.dn import parse_dn
from pydantic import AfterValidator, Field, StringConstraints, model_validator

from jitaccess.connectors.contract import (
    Account,
    CallFailed,
    ConnectorKind,
    Credential,
    Effect,
    EnforcesExpiry,
    Inventory,
    KindConfig,
    LeaseSpec,
    NotDone,
    Proofs,
    Quarantined,
    Secret,
    SecretName,
    Surroundings,
    Unreachable,
    Unusable,
    is_own_account,
)
from jitaccess.proof.canonical import JsonValue
from jitaccess.told import told

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
CONNECT_LIMIT_S = 5
ANSWER_LIMIT_S = 10
"""A directory that does not answer within this is given up: it holds no thread for ever."""
TRIES = 20
"""How often a change is tried again because somebody else changed the same group in between."""
TURN_S = 1.0
"""How long a change waits for others of this process."""
UNCERTAIN = (LDAPBusyResult, LDAPUnavailableResult, LDAPOtherResult)
"""Results after which nobody knows whether the change was made; every other result says that it was not."""
ASSERT, NO_OPERATION, AS_STORED = "1.3.6.1.1.12", "1.3.6.1.4.1.4203.666.5.2", "2.16.840.1.113730.3.4.2"
"""Controls: RFC 4528; OpenLDAP's trial run; RFC 3296, with which overlays show what is stored and nothing computed."""
REFRESH = "1.3.6.1.4.1.1466.101.119.1"
"""Extended operation of RFC 2589 section 4."""
TRIED = 16_654
"""Result of a trial run that would have been done (LDAP_X_NO_OPERATION)."""
EXPIRES = "entryExpireTimestamp"
SHOWING = ("labeledURI", "memberURL")
"""Attributes whose URLs the overlays dynlist and dyngroup turn into members."""
NOT_THERE = " is not there"
"""Under this name a guarded group is found that the directory does not show, as an account that nothing explains."""
NOBODY = ""
"""The empty name: a group must have a member (RFC 4519 section 3.5), and nobody can be this one."""
_USER_CLASSES = {"cn": "organizationalRole", "uid": "account"}


def _sound(dn: str) -> str:
    if not parse_dn(dn):
        raise ValueError("the empty name names nothing")
    return dn


Name = Annotated[str, StringConstraints(pattern=r'^[^\x00-\x1f"]{3,500}$'), AfterValidator(_sound)]
"""A distinguished name (RFC 4514); without quotation marks, because it stands in access lines."""
Attribute = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")]


class People(KindConfig):
    """Where the person's entry is, and by what it is found."""

    base: Name
    attribute: Attribute = "mail"
    """Must be one that people cannot write themselves."""
    match: Literal["address", "local_part"] = "address"
    """What it holds: the mail address of the register, or what stands before its @."""


class Meaning(KindConfig):
    """What an entitlement is in a directory: membership in one group."""

    group: Name


class LdapConfig(KindConfig):
    """Where the directory is, how the broker gets in, which groups it guards."""

    kind: Literal["ldap"]
    host: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,253}$")]
    port: int = Field(default=636, ge=1, le=65535)
    tls: Literal["ldaps", "starttls", "none"] = "ldaps"
    """`none` for a loopback address only."""
    root_ca: str = Field(default="", max_length=500)
    """File with the certificate authorities that may sign the server's certificate; empty: those of the system."""
    user: Name
    """The broker's own entry; its first part is a cn or a uid."""
    secret: SecretName
    people: People
    leases: Name
    """A container (ou) that nobody but the broker writes to."""
    dynamic: bool
    """Whether each lease is an entry that the directory deletes by itself."""
    member: Literal["member", "uniqueMember"] = "member"
    entitlements: dict[str, Meaning]

    @model_validator(mode="after")
    def _usable(self) -> "LdapConfig":
        if self.tls == "none" and self.host not in LOOPBACK:
            raise ValueError("`tls: none` is for a loopback address only")
        if parse_dn(self.user)[0][0].lower() not in _USER_CLASSES:
            raise ValueError("`user` must begin with cn= or uid=")
        if parse_dn(self.leases)[0][0].lower() != "ou":
            raise ValueError("`leases` must begin with ou=")
        if self.dynamic and self.member != "member":
            raise ValueError("`dynamic: true` is for groups whose members are in `member`")
        return self


def plain(dn: str) -> str:
    """Return a distinguished name as findings show it: small letters, no space around separators.

    Not case folding: to slapd `straße` and `strasse` are two entries.
    """
    return ",".join(f"{kind}={value}".lower() for kind, value, _ in parse_dn(dn, strip=True)) if dn else ""


def membership(member: str, group: str) -> str:
    """Return the name of a membership, as leases, findings and exceptions know it."""
    return f"{plain(member)} in {plain(group)}"


# ---------------------------------------------------------------- the line


class Anchored(Tls):
    """TLS checked by Python's own ssl: ldap3 checks names with a function that newer Pythons have no more."""

    def __init__(self, host: str, context: SSLContext) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._host, self._context = host, context

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
        """Put TLS on a connection's socket; name and chain are checked, or it raises."""
        connection.socket = self._context.wrap_socket(connection.socket, server_hostname=self._host)


class Line:
    """One bound connection. Whatever the directory refuses is raised as ldap3's exception of that result."""

    def __init__(self, config: LdapConfig, secret: Secret) -> None:
        tls = None
        if config.tls != "none":
            context = ssl.create_default_context(cafile=config.root_ca or None)
            tls = Anchored(config.host, context)
        server = LdapServer(
            config.host,
            config.port,
            use_ssl=config.tls == "ldaps",
            tls=tls,
            get_info=NONE,
            connect_timeout=CONNECT_LIMIT_S,
        )
        self._line = LdapConnection(
            server,
            config.user,
            secret.reveal(),
            auto_bind="NONE",
            client_strategy=SAFE_SYNC,
            auto_referrals=False,
            check_names=False,
            auto_escape=False,
            return_empty_attributes=False,
            receive_timeout=ANSWER_LIMIT_S,
            raise_exceptions=True,
        )
        try:
            self._line.open(read_server_info=False)
            # Else the bind waits 40 ms for the directory's acknowledgement of the handshake's last word, which that one delays.
            self._line.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if config.tls == "starttls":
                self._line.start_tls(read_server_info=False)
            self._done(self._line.bind(read_server_info=False))
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _done(answer: Any, *also: int) -> Any:
        """Return the response of an answer; raise for what ldap3 raises nothing for: another server is named, or a part is left out."""
        _, result, response, _ = answer
        if result["result"] not in (RESULT_SUCCESS, *also):
            raise LDAPOperationResult(result["result"], result["description"], response_type=result["type"])
        return response

    def close(self) -> None:
        """Hang up, also where ldap3 thinks that it never was connected."""
        with suppress(LDAPException, OSError):
            self._line.unbind()
        if self._line.socket is not None:
            self._line.socket.close()

    def find(
        self, base: str, what: str, scope: str, *names: str, most: int = 0
    ) -> list[tuple[str, dict[str, list[str]]]]:
        """Return name and attributes of the entries that match; references to other servers are no entries."""
        answer = self._line.search(
            base,
            what,
            cast(Any, scope),
            dereference_aliases=DEREF_NEVER,
            attributes=[*names] or ["1.1"],
            size_limit=most,
            controls=[(AS_STORED, False, None)],
        )
        response = self._done(answer, *([RESULT_SIZE_LIMIT_EXCEEDED] if most else []))
        return [
            (str(one["dn"]), {key: [raw.decode() for raw in raws] for key, raws in one["raw_attributes"].items()})
            for one in response
            if one["type"] == "searchResEntry"
        ]

    def read(self, dn: str, *names: str) -> dict[str, list[str]] | None:
        """Return attributes of one entry; None on the directory's word that there is none."""
        try:
            return self.find(dn, "(objectClass=*)", BASE, *names)[0][1]
        except LDAPNoSuchObjectResult:
            return None

    def holds(self, dn: str, attribute: str, value: str) -> bool:
        """Say whether an entry has a value, as the directory compares it."""
        return bool(self.find(dn, f"({attribute}={escape_filter_chars(value)})", BASE))

    def add(self, dn: str, classes: Sequence[str], values: Mapping[str, Sequence[str]]) -> None:
        """Make an entry."""
        self._done(cast(Any, self._line).add(dn, [*classes], {name: [*found] for name, found in values.items()}))

    def change(self, dn: str, changes: Mapping[str, Sequence[tuple[str, list[str]]]], number: str = "") -> None:
        """Change an entry, all or nothing; with `number` only if this is still its change number."""
        controls = [(ASSERT, True, _equals("entryCSN", number))] if number else None
        self._done(
            cast(Any, self._line).modify(dn, {name: [*ways] for name, ways in changes.items()}, controls=controls)
        )

    def delete(self, dn: str) -> None:
        """Delete an entry; one that is not there is as good."""
        with suppress(LDAPNoSuchObjectResult):
            self._done(cast(Any, self._line).delete(dn))

    def last(self, dn: str, seconds: int) -> None:
        """Let a dynamic entry live so long from now (RFC 2589 section 4.1)."""
        number = seconds.to_bytes(seconds.bit_length() // 8 + 1, "big")
        order = _tlv(0x30, _tlv(0x80, dn.encode()) + _tlv(0x81, number))
        self._done(self._line.extended(REFRESH, order, no_encode=True))

    def own_password(self, user: str, old: Secret, new: Secret) -> None:
        """Change the broker's own password (RFC 3062); the directory hashes it."""
        self._line.extend.standard.modify_password(user, old.reveal(), new.reveal())

    def may(self, act: str, dn: str, *given: Any) -> bool | None:
        """Say whether the directory would let the broker do something, without doing it; None where it has no trial run."""
        try:
            self._done(getattr(self._line, act)(dn, *given, controls=[(NO_OPERATION, True, None)]))
        except KeyError as result:  # ldap3 has no name for this result
            if result.args == (TRIED,):
                return True
            raise
        except LDAPInsufficientAccessRightsResult:
            return False
        except LDAPUnavailableCriticalExtensionResult:
            return None
        return True


def _tlv(tag: int, content: bytes) -> bytes:
    """Return a BER element (X.690 section 8.1), definite form."""
    size = len(content)
    long = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, size]) + content if size < 0x80 else bytes([tag, 0x80 | len(long)]) + long + content


def _equals(attribute: str, value: str) -> bytes:
    """Return an equalityMatch filter in BER (RFC 4511 section 4.5.1.7)."""
    return _tlv(0xA3, _tlv(0x04, attribute.encode()) + _tlv(0x04, value.encode()))


def _time(stamp: str) -> datetime:
    """Return the time that a change number or a generalized time begins with, to the microsecond where it says so."""
    head = stamp.partition("Z")[0]
    form = "%Y%m%d%H%M%S.%f" if "." in head else "%Y%m%d%H%M%S"
    return datetime.strptime(head, form).replace(tzinfo=UTC)


@contextmanager
def _proving() -> Iterator[None]:
    """Raise NotDone where the directory says that a change was not made; let everything else pass as it is."""
    try:
        yield
    except LDAPOperationResult as error:
        if isinstance(error, UNCERTAIN):
            raise
        raise NotDone(f"the directory refused with {type(error).__name__}") from None


# ---------------------------------------------------------------- the connector


class LdapConnector:
    """One directory."""

    def __init__(self, config: LdapConfig, around: Surroundings) -> None:
        self._config = config
        self._around = around
        self._groups = {plain(meaning.group): meaning.group for meaning in config.entitlements.values()}
        self._changing = threading.Lock()

    @contextmanager
    def _line(self) -> Iterator[Line]:
        """Give a line, with whichever of the broker's secrets the directory takes. Raises Unreachable."""
        failure: Exception | None = None
        for secret in self._around.secrets(self._config.secret):
            try:
                line = Line(self._config, secret)
                break
            except (LDAPException, OSError) as error:
                failure = error
        else:
            raise Unreachable("the directory cannot be reached or refuses the broker") from failure
        try:
            yield line
        finally:
            line.close()

    # -- making

    def look(self, spec: LeaseSpec) -> Mapping[str, JsonValue]:
        """Find the person's entry, and whether it is a member already. Raises Unusable and Unreachable."""
        group, people = self._config.entitlements[spec.entitlement].group, self._config.people
        value = spec.email if people.match == "address" else spec.email.partition("@")[0]
        if not value:
            raise Unusable("The register knows no mail address of yours. Ask an administrator to enter it.")
        with self._line() as line:
            who = f"({people.attribute}={escape_filter_chars(value)})"
            found = line.find(people.base, who, SUBTREE, "entryUUID", most=2)
            if len(found) != 1:
                raise Unusable(
                    "The directory must hold exactly one entry with your mail address. Ask its owner to put it right."
                )
            member, shown = found[0]
            existed = not self._config.dynamic and line.holds(group, self._config.member, member)
        return {"member": member, "uuid": next(iter(shown.get("entryUUID", [])), ""), "existed": existed}

    def plan(self, spec: LeaseSpec) -> Effect:
        """Plan a membership (plain, named after itself), or an entry of its own (dynamic, named after the lease)."""
        group = self._config.entitlements[spec.entitlement].group
        member = spec.found.get("member")
        if not isinstance(member, str):
            raise Unusable("Your entry in the directory was not looked up. Try again.")
        if self._config.dynamic:
            ends_at = spec.ends_at.astimezone(UTC).isoformat()
            return Effect("ldap", spec.account, {"group": group, "member": member, "ends_at": ends_at})
        # What a live lease of the same membership found there before it counts for this one as well.
        existed = spec.found["existed"] if spec.beside is None else spec.beside.detail["existed"]
        shared = spec.beside is not None
        detail = {"group": group, "member": member, "uuid": spec.found.get("uuid", ""), "existed": existed}
        detail |= {"shared": shared, "lease": spec.account}
        return Effect("ldap", membership(member, group), detail)

    def apply(self, effect: Effect, deadline: datetime) -> Credential:
        """Give the membership; not after the deadline by the directory's clock, and not over a tombstone."""
        with self._line() as line, _proving():
            if self._config.dynamic:
                self._open_entry(line, effect, deadline)
            else:
                self._join(line, effect, deadline)
        return Credential(
            username=str(effect.detail["member"]),
            note=told(
                "Your own entry is now a member. Sign in as always; a program that is open may have to be started again."
            ),
        )

    def _join(self, line: Line, effect: Effect, deadline: datetime) -> None:
        group, member = self._place(effect)
        if effect.detail["existed"]:
            if not line.holds(group, self._config.member, member):
                raise NotDone("the membership that was there is there no more")
            return
        with self._turn():
            self._enter(line, effect, deadline)

    def _enter(self, line: Line, effect: Effect, deadline: datetime) -> None:
        group, member = self._place(effect)
        for _ in range(TRIES):
            number = self._touch(line, group, effect)
            if _time(number) > deadline:
                raise NotDone("the deadline is past by the directory's clock")
            if line.read(self._tombstone(effect)) is not None:
                raise NotDone("this lease was buried")
            try:
                line.change(group, {self._config.member: [(MODIFY_ADD, [member])]}, number)
            except LDAPAssertionFailedResult:
                continue  # somebody changed the group in between, perhaps the burial of this very lease: look again
            except LDAPAttributeOrValueExistsResult:
                if not effect.detail["shared"]:
                    raise
            return
        raise NotDone("the group is changed by others all the time")

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Let changes of groups by this process follow each other: each one makes those that look first look again.

        It is a courtesy only: whoever has waited for a second goes on, so that one call that hangs keeps no end waiting.
        """
        mine = self._changing.acquire(timeout=TURN_S)
        try:
            yield
        finally:
            if mine:
                self._changing.release()

    def _open_entry(self, line: Line, effect: Effect, deadline: datetime) -> None:
        """Make the lease's entry empty, check the time, set its end, and only then give it a member."""
        dn, ends_at = self._entry(effect.name), datetime.fromisoformat(str(effect.detail["ends_at"]))
        line.add(dn, ["groupOfNames", "dynamicObject"], {"cn": [effect.name], "member": [NOBODY]})
        number = self._number(line, dn)
        now = _time(number)
        if now > deadline or not self._ends(line, dn, int((ends_at - now).total_seconds()), ends_at):
            line.delete(dn)
            raise NotDone("the deadline is past by the directory's clock")
        given = {"member": [effect.detail["member"]], "seeAlso": [effect.detail["group"]]}
        line.change(dn, {name: [(MODIFY_REPLACE, cast("list[str]", value))] for name, value in given.items()}, number)

    def _ends(self, line: Line, dn: str, seconds: int, ends_at: datetime) -> bool:
        """Let an entry end at a time or less than two seconds earlier; False where that is now."""
        for left in (seconds, seconds - 1):  # the order to live so long arrives later than the time was read
            if left > 0:
                line.last(dn, left)
                found = line.read(dn, "entryExpireTimestamp") or {}
                if found.get("entryExpireTimestamp") and _time(found["entryExpireTimestamp"][0]) <= ends_at:
                    return True
        return False

    def bury(self, effect: Effect) -> None:
        """Take the lease's name in the container, and change what a late change would assert to be unchanged."""
        dn = self._tombstone(effect)
        with self._line() as line:
            try:
                line.add(dn, ["applicationProcess"], {"cn": [_own(self._lease(effect))]})
            except LDAPEntryAlreadyExistsResult:
                with suppress(LDAPNoSuchObjectResult):  # it ran out just now
                    line.change(dn, {"description": [(MODIFY_REPLACE, ["buried"])]})
            if not self._config.dynamic:
                self._touch(line, self._place(effect)[0], effect)

    # -- ending

    def cut(self, effects: Sequence[Effect]) -> Proofs:
        """End the memberships and read back."""
        with self._line() as line:
            return self._emptied(line, effects) if self._config.dynamic else self._left(line, effects)

    def clean(self, effects: Sequence[Effect]) -> Proofs:
        """Delete entries and tombstones, and read back."""
        with self._line() as line:
            found = self._emptied(line, effects) if self._config.dynamic else self._left(line, effects)
            for effect in effects:
                line.delete(self._tombstone(effect))
                if line.read(self._tombstone(effect)) is not None:
                    raise CallFailed("still_there")
            return {name: {**proof, "entry": "absent"} for name, proof in found.items()}

    def _left(self, line: Line, effects: Sequence[Effect]) -> Proofs:
        """Take members out of their groups. A group is changed even where nothing was there, so that no late change can land."""
        by_group: dict[str, list[Effect]] = defaultdict(list)
        proofs: dict[str, Mapping[str, JsonValue]] = {}
        for effect in effects:
            group, member = self._place(effect)
            if effect.detail["existed"]:
                proofs[effect.name] = {"membership": "kept", "existed": True}
            else:
                by_group[group].append(effect)
        for group, ending in by_group.items():
            for effect in ending:
                names = self._names(line, effect)
                for member in names or [self._place(effect)[1]]:
                    with self._turn():
                        self._take_out(line, group, member, effect)
                    if line.holds(group, self._config.member, member):
                        raise CallFailed("still_a_member")
                if not names:
                    self._nobody_unknown(line, group)
                proofs[effect.name] = {"membership": "absent"}
        return proofs

    def _names(self, line: Line, effect: Effect) -> list[str]:
        """Return the name that was made a member, and those that its entry has now; nothing where the entry is not found anywhere.

        It may have been renamed or moved, and the group with it: it is looked for by what never changes, in all that the server holds.
        """
        member, uuid = self._place(effect)[1], str(effect.detail.get("uuid") or "")
        if not uuid:
            return [member]
        if uuid in (line.read(member, "entryUUID") or {}).get("entryUUID", []):
            return [member]
        everywhere = (line.read("", "namingContexts") or {}).get("namingContexts", [])
        what = f"(entryUUID={escape_filter_chars(uuid)})"
        for base in (self._config.people.base, *everywhere):
            with suppress(LDAPNoSuchObjectResult):
                found = [dn for dn, _ in line.find(base, what, SUBTREE)]
                if found:
                    return [member, *found]
        return []

    def _nobody_unknown(self, line: Line, group: str) -> None:
        """Raise CallFailed while a group has a member whose entry the broker cannot see: it may be the one that is not found."""
        members = (line.read(group, self._config.member) or {}).get(self._config.member, [])
        for member in members:
            if member != NOBODY and not (line.read(member, "entryUUID") or {}).get("entryUUID"):
                raise CallFailed("still_unknown_member")

    def _take_out(self, line: Line, group: str, member: str, effect: Effect | None = None) -> None:
        try:
            line.change(group, {self._config.member: [(MODIFY_DELETE, [member])]})
        except LDAPNoSuchAttributeResult:
            if effect is not None:
                self._touch(line, group, effect)
        except LDAPOperationResult as error:
            if type(error).__name__ != "LDAPObjectClassViolationResult":
                raise
            # It was the last one, and a group must have one.
            line.change(group, {self._config.member: [(MODIFY_ADD, [NOBODY]), (MODIFY_DELETE, [member])]})

    def _emptied(self, line: Line, effects: Sequence[Effect]) -> Proofs:
        proofs: dict[str, Mapping[str, JsonValue]] = {}
        for effect in effects:
            dn = self._entry(_own(effect.name))
            found = line.read(dn, "member")
            if found is not None and "member" in found:
                with suppress(LDAPNoSuchObjectResult):  # it ran out just now
                    line.change(dn, {"member": [(MODIFY_REPLACE, [NOBODY])], "seeAlso": [(MODIFY_REPLACE, [])]})
                found = line.read(dn, "member")
            if found is not None and found.get("member", [NOBODY]) != [NOBODY]:
                raise CallFailed("still_a_member")
            proofs[effect.name] = {"membership": "absent"}
        return proofs

    # -- names and numbers

    def _place(self, effect: Effect) -> tuple[str, str]:
        """Return group and member of a plain effect; anything that a lease did not plan is refused."""
        group, member = str(effect.detail["group"]), str(effect.detail["member"])
        if plain(group) not in self._groups or effect.name != membership(member, group):
            raise ValueError("not the name of a lease's membership")
        return group, member

    def _lease(self, effect: Effect) -> str:
        return _own(effect.name if self._config.dynamic else str(effect.detail["lease"]))

    def _entry(self, name: str) -> str:
        return f"cn={_own(name)},{self._config.leases}"

    def _tombstone(self, effect: Effect) -> str:
        return self._entry(self._lease(effect))

    def _touch(self, line: Line, group: str, effect: Effect) -> str:
        """Change a group without changing it; return its new change number."""
        nothing = self._tombstone(effect)
        line.change(group, {self._config.member: [(MODIFY_ADD, [nothing]), (MODIFY_DELETE, [nothing])]})
        return self._number(line, group)

    def _number(self, line: Line, dn: str) -> str:
        found = line.read(dn, "entryCSN")
        if found is None or not found.get("entryCSN"):
            raise NotDone("the directory shows no change number")
        return found["entryCSN"][0]

    # -- looking

    def expects(self, effect: Effect, ends_at: datetime) -> Account:
        """Return the membership, or the lease's entry with its one member."""
        group, member = str(effect.detail["group"]), str(effect.detail["member"])
        right = membership(member, group) if self._config.dynamic else f"member of {plain(group)}"
        return Account(effect.name, frozenset({right}), expires_at=ends_at)

    def observe(self) -> Inventory:
        """List the members of the guarded groups as they are stored, the entries of leases, and whom else the groups show."""
        with self._line() as line:
            accounts = {account.name: account for account, _ in self._there(line).values()}
        coverage = {"accounts", "memberships", "dynamic lists"} | ({"expiry"} if self._config.dynamic else set())
        return Inventory(accounts, frozenset(coverage), own=self._config.user)

    def _there(self, line: Line) -> dict[str, tuple[Account, "_Where"]]:
        """Return everything that lets somebody into a guarded group, by name, with the place where it is taken away."""
        found: dict[str, tuple[Account, _Where]] = {}
        for group in self._groups.values():
            entry = line.read(group, self._config.member, *SHOWING)
            if entry is None:  # deleted, or hidden from the broker: the others are looked at all the same
                found[f"{plain(group)}{NOT_THERE}"] = Account(f"{plain(group)}{NOT_THERE}"), _Where(group)
                continue
            for member in entry.get(self._config.member, []):
                if member != NOBODY:
                    name = membership(member, group)
                    rights = frozenset({f"member of {plain(group)}"})
                    found[name] = Account(name, rights), _Where(group, self._config.member, member)
            for attribute, url in self._others(entry, group):
                name = f"{plain(group)} shows {url}"
                found[name] = Account(name), _Where(group, attribute, url)
        if self._config.dynamic:
            found |= {account.name: (account, where) for account, where in self._entries(line)}
        return found

    def _others(self, group: Mapping[str, Sequence[str]], name: str) -> Iterator[tuple[str, str]]:
        """Yield attribute and value of each URL that makes a group show members from elsewhere, but for that of the leases."""
        meant = _shown(self._config, name) if self._config.dynamic else None
        for attribute in SHOWING:
            for url in group.get(attribute, []):
                if url != meant and url.casefold().startswith("ldap"):  # an address of a web page lets nobody in
                    yield attribute, url

    def _entries(self, line: Line) -> Iterator[tuple[Account, "_Where"]]:
        """Yield the entries of the container that have a member; those that have none give nothing to anybody."""
        for dn, entry in line.find(self._config.leases, "(objectClass=*)", LEVEL, "member", "seeAlso", EXPIRES):
            members = [member for member in entry.get("member", []) if member != NOBODY]
            groups = entry.get("seeAlso", [])
            if members:
                rights = frozenset(membership(member, group) for member in members for group in groups)
                ends = entry.get(EXPIRES)
                account = Account(_called(dn), rights, expires_at=_time(ends[0]) if ends else None)
                yield account, _Where(dn)

    def quarantine(self, account: str, *, remove: bool) -> Quarantined:
        """Take a membership away, or an entry of the container, and look again; a membership can be locked in no other way."""
        if account.endswith(NOT_THERE):
            return Quarantined(
                False, "make the group anew, let the broker read it, or take its entitlements out of the policy"
            )
        with self._line() as line:
            where = self._there(line).get(account, (None, None))[1]
            if is_own_account(account):
                where = _Where(self._entry(account))
            if where is not None:
                try:
                    self._take_away(line, where)
                except LDAPInsufficientAccessRightsResult:
                    return Quarantined(False, where.ldif())
            if account in self._there(line):
                raise CallFailed("still_there")
            return Quarantined(True)

    def _take_away(self, line: Line, where: "_Where") -> None:
        if where.attribute == self._config.member:
            self._take_out(line, where.dn, where.value)
        elif where.attribute:
            line.change(where.dn, {where.attribute: [(MODIFY_DELETE, [where.value])]})
        else:
            with suppress(LDAPNotAllowedOnNotLeafResult):
                line.delete(where.dn)
                return
            line.change(
                where.dn, {"seeAlso": [(MODIFY_REPLACE, [])]}
            )  # something lies below it: it lets nobody in any more

    # -- the broker's own entry

    def probe(self) -> tuple[str, ...]:
        """Try, without doing it, what the broker must be able to do and what it must not."""
        with self._line() as line:
            return (*self._lacks(line), *self._exceeds(line))

    def _lacks(self, line: Line) -> Iterator[str]:
        config = self._config
        root = line.read("", "supportedControl", "dynamicSubtrees") or {}
        if ASSERT not in root.get("supportedControl", []):
            yield "missing: the directory shows no assertion control (RFC 4528)"
        has_dds = bool(root.get("dynamicSubtrees"))  # RFC 2589 section 6
        if config.dynamic and not has_dds:
            yield "missing: the directory has no dds overlay"
        if not config.dynamic and has_dds:
            yield "note: the directory has the dds overlay; with `dynamic: true` it would end memberships by itself"
        try:
            line.find(config.people.base, f"({config.people.attribute}=jitaccess-probe)", SUBTREE)
        except LDAPOperationResult:
            yield f"missing: {config.user} may not look for people in {config.people.base}"
        entry = self._entry(f"jit-{'0' * 26}")
        values = {"cn": f"jit-{'0' * 26}"}
        if line.may("add", entry, ["applicationProcess"], values) is False:
            yield f"missing: {config.user} may not make entries in {config.leases}"
        for group in self._groups.values():
            found = line.read(group, config.member, "entryCSN", *SHOWING)
            if found is None or not found.get("entryCSN"):
                yield f"missing: {config.user} may not read the group {group} and its entryCSN"
                continue
            if config.dynamic and _shown(config, group) not in found.get("labeledURI", []):
                yield f"missing: the group {group} does not show leases (labeledURI: {_shown(config, group)})"
            for attribute, url in self._others(found, group):
                yield f"too mighty: the group {group} lets in whom {attribute} names: {url}"
            change = {config.member: [(MODIFY_ADD, [entry]), (MODIFY_DELETE, [entry])]}
            if not config.dynamic and line.may("modify", group, change) is False:
                yield f"missing: {config.user} may not change the members of {group}"

    def _exceeds(self, line: Line) -> Iterator[str]:
        config = self._config
        change = {"description": [(MODIFY_REPLACE, ["jitaccess probe"])]}
        tried = line.may("modify", config.people.base, change)
        if tried is None:
            yield "note: the directory has no trial run (no-op control); what the broker can do beyond need is not known"
            return
        if tried or line.may("add", f"cn=jitaccess-probe,{config.people.base}", ["applicationProcess"], {}):
            yield f"too mighty: {config.user} may change {config.people.base}"
        for group in self._groups.values():
            if line.may("modify", group, change):
                yield f"too mighty: {config.user} may change more of {group} than its members"
            if line.holds(group, config.member, config.user):
                yield f"too mighty: {config.user} is a member of {group}"

    def rotate_own(self, old: Secret, new: Secret) -> None:
        """Change the broker's password; with the old one, or nothing more where the new one is taken already."""
        failure: Exception | None = None
        for secret in (new, old):
            try:
                line = Line(self._config, secret)
            except (LDAPException, OSError) as error:
                failure = error
                continue
            try:
                if secret is old:
                    line.own_password(self._config.user, old, new)
            finally:
                line.close()
            Line(self._config, new).close()
            return
        raise Unreachable("the directory takes neither the old nor the new secret of the broker") from failure

    def close(self) -> None:
        """Nothing is kept open."""


def _called(dn: str) -> str:
    """Return what an entry of the container is called: by its own first name, never by what else it says of itself."""
    (kind, value, more), *_ = parse_dn(dn)
    return str(value) if kind.casefold() == "cn" and more == "," else plain(dn)


@dataclass(frozen=True, slots=True)
class _Where:
    """What has to be taken away: a value of an attribute, or, without one, the whole entry."""

    dn: str
    attribute: str = ""
    value: str = ""

    def ldif(self) -> str:
        """Return the change for the directory's owner (RFC 2849)."""
        if not self.attribute:
            return f"{_ldif('dn', self.dn)}\nchangetype: delete"
        lines = (_ldif("dn", self.dn), "changetype: modify", f"delete: {self.attribute}")
        return "\n".join([*lines, _ldif(self.attribute, self.value)])


def _own(name: str) -> str:
    """Return a name that a lease made; anything else is a defect or an attack, and nothing is done to it."""
    if not is_own_account(name):
        raise ValueError("not the name of a lease's account")
    return name


# ---------------------------------------------------------------- setting up


def _ldif(name: str, value: str) -> str:
    """Return one line of LDIF (RFC 2849); what is not plain text goes in base64."""
    safe = value.isascii() and value.isprintable() and not value.startswith((" ", ":", "<")) and not value.endswith(" ")
    return f"{name}: {value}" if safe else f"{name}:: {base64.b64encode(value.encode()).decode()}"


def _shown(config: LdapConfig, group: str) -> str:
    """Return the LDAP URL (RFC 4516) with which the dynlist overlay shows the members of leases in their group."""
    where = f"(seeAlso={escape_filter_chars(group)})"
    return f"ldap:///{quote(config.leases, safe='=,')}?member?one?{quote(where, safe='=,()')}"


EXAMPLE = LdapConfig(
    kind="ldap",
    host="ldap.example",
    user="cn=jit-broker,dc=example",
    secret="directory-broker",  # noqa: S106 - the name of a file, not a secret
    people=People(base="ou=people,dc=example"),
    leases="ou=jit,dc=example",
    dynamic=True,
    entitlements={"admin": Meaning(group="cn=ledger-admins,ou=groups,dc=example")},
)
PARTS = "# ----"
"""Begins the line above each part: who runs it."""


def setup(config: LdapConfig | None) -> str:
    """Return LDIF for the directory's owner: the broker's entry, its access lines, and with `dynamic` the overlays."""
    config = config or EXAMPLE
    groups = sorted({meaning.group for meaning in config.entitlements.values()})
    # The overlays come first: without dds the directory knows no entryTtl that access could be given to.
    parts = [*([_OVERLAYS] if config.dynamic else []), _entries_of(config, groups), _access(config, groups)]
    return "\n\n".join(parts) + "\n"


def _entries_of(config: LdapConfig, groups: Sequence[str]) -> str:
    kind, name, _ = parse_dn(config.user)[0]
    lines = [
        f"{PARTS} As the directory's administrator, for instance: ldapmodify -ZZ -D ADMINISTRATOR -W -f THIS-PART",
        "# Then give the entry its password from a file without a last line break, the same as in the file",
        f"# {config.secret} of targets.secrets_dir (chmod 600): ldappasswd -ZZ -D ADMINISTRATOR -W -T FILE '{config.user}'",
        _ldif("dn", config.user),
        "changetype: add",
        f"objectClass: {_USER_CLASSES[kind.lower()]}",
        "objectClass: simpleSecurityObject",
        _ldif(kind, name),
        "userPassword: {SSHA}!",
        "",
        _ldif("dn", config.leases),
        "changetype: add",
        "objectClass: organizationalUnit",
        _ldif("ou", parse_dn(config.leases)[0][1]),
    ]
    if config.dynamic:
        for group in groups:
            lines += ["", _ldif("dn", group), "changetype: modify", "add: objectClass", "objectClass: labeledURIObject"]
            lines += ["-", "add: labeledURI", _ldif("labeledURI", _shown(config, group))]
    return "\n".join(lines)


def _access(config: LdapConfig, groups: Sequence[str]) -> str:
    by = f'by dn.exact="{config.user}"'
    rules = [f'to dn.base="{config.user}" attrs=userPassword by self =xw by anonymous auth by * none']
    for group in groups:
        # With entries of their own the broker never adds a member to the group itself: it may only take one away.
        level = "=zrsc" if config.dynamic else "write"
        rules.append(f'to dn.base="{group}" attrs={config.member} {by} {level} by * break')
        seen = ",".join(["entry", "objectClass", "entryCSN", "labeledURI"])
        rules.append(f'to dn.base="{group}" attrs={seen} {by} read by * break')
    found_by = f"entry,entryUUID,{config.people.attribute}"
    rules.append(f'to dn.subtree="{config.people.base}" attrs={found_by} {by} read by * break')
    if config.dynamic:
        rules.append(f'to dn.children="{config.leases}" attrs=entryTtl {by} manage by * break')
    rules.append(f'to dn.base="{config.leases}" attrs=entry,children {by} write by * break')
    rules.append(f'to dn.children="{config.leases}" {by} write by * break')
    if not config.dynamic:  # who is moved elsewhere while a lease lives is found by the entryUUID, wherever that is
        rules.append(f"to attrs=entry,entryUUID {by} read by * break")
    lines = [
        f"{PARTS} As administrator of the server's configuration, for instance: ldapmodify -Y EXTERNAL -H ldapi:/// -f THIS-PART",
        "# Put the number of your database in place of {1}. A database without any access line lets everybody read: such a one",
        "# needs `olcAccess: to * by * read` after these. Where it knows memberURL (the schema dyngroup) write that after labeledURI.",
        "dn: olcDatabase={1}mdb,cn=config",
        "changetype: modify",
        "add: olcAccess",
    ]
    rows = [_ldif("olcAccess", f"{{{place}}}{rule}") for place, rule in enumerate(rules)]
    # A look that is cut off after 500 entries, the server's own default, would find nothing strange in the rest.
    more = ["-", "add: olcLimits", _ldif("olcLimits", f'dn.exact="{config.user}" size=unlimited')]
    return "\n".join([*lines, *rows, *more])


_OVERLAYS = f"""\
{PARTS} As administrator of the server's configuration; leave out what is there already
dn: cn=module{{0}},cn=config
changetype: modify
add: olcModuleLoad
olcModuleLoad: dds
olcModuleLoad: dynlist

dn: olcOverlay=dds,olcDatabase={{1}}mdb,cn=config
changetype: add
objectClass: olcOverlayConfig
objectClass: olcDDSConfig
olcOverlay: dds
# How often, in seconds, the server looks for entries whose time is up: a dead broker's leases outlive their end by so much at most.
olcDDSinterval: 10

dn: olcOverlay=dynlist,olcDatabase={{1}}mdb,cn=config
changetype: add
objectClass: olcOverlayConfig
objectClass: olcDynListConfig
olcOverlay: dynlist
olcDynListAttrSet: labeledURIObject labeledURI"""


def _enforces(connector: Mapping[str, JsonValue]) -> EnforcesExpiry:
    return EnforcesExpiry.LOGINS if connector.get("dynamic") is True else EnforcesExpiry.NOTHING


KIND = ConnectorKind(
    "ldap",
    LdapConfig,
    LdapConnector,
    setup,
    enforces_expiry=EnforcesExpiry.NOTHING,
    enforces=_enforces,
    shared=True,
    looks=True,
    place=("host", "port", "leases", "dynamic", "member"),
)
