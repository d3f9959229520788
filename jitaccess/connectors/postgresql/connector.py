"""The verbs of the contract on one PostgreSQL server."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import psycopg
from psycopg import sql

from jitaccess.connectors.contract import (
    ACCOUNT_PREFIX,
    Account,
    CallFailed,
    Credential,
    Effect,
    Inventory,
    LeaseSpec,
    NotDone,
    NotReady,
    Proofs,
    Quarantined,
    Secret,
    Surroundings,
    Unreachable,
    is_own_account,
)
from jitaccess.connectors.postgresql.config import PostgresqlConfig
from jitaccess.connectors.postgresql.cutting import LockedOut, chunks, lock_out, renamed
from jitaccess.connectors.postgresql.inventory import ATTRIBUTES, EVERYBODY, FIRING, TIED, Seen, accounts
from jitaccess.connectors.postgresql.leftovers import Leaver, Left, Work, disarm, keep, left_by, traces
from jitaccess.connectors.postgresql.lending import disarm_lent
from jitaccess.connectors.postgresql.lines import (
    PROTOCOL_16,
    UNCERTAIN_CLASSES,
    Connection,
    Lines,
    at_once,
    ending,
    ident,
    require_no_sessions,
    roles_of,
    run,
    stamp,
)
from jitaccess.connectors.postgresql.outliving import objections
from jitaccess.connectors.postgresql.owners import disable, fingerprints
from jitaccess.connectors.postgresql.prepared import join, leave, prepared_by_lent_roles, roll_back
from jitaccess.connectors.postgresql.probe import findings
from jitaccess.connectors.postgresql.undo import statements
from jitaccess.connectors.postgresql.verifier import SALT_BYTES, verifier
from jitaccess.proof.canonical import JsonValue, b64u_decode
from jitaccess.told import told

CA_FILE = "server-ca.pem"
"""What the file with the server's authorities is called when a person gets it."""
CLOCK = "(the server's clock)"
"""Under this name a clock that is wrong is found, as an account that nothing explains."""
OWNERS = "(the owner's functions)"
"""Under this name it is found that a function which the server's owner installed does not do what it is for."""
CLOCK_OFF = timedelta(seconds=5)
NOT_NOW = "22012"
"""Division by zero: with it a birth says that it would be too late, or that the clocks differ."""
CLEAN_FOR = timedelta(seconds=10)
"""So long one call works on what people left; the next one goes on from there."""
LENDABLE = timedelta(seconds=30)
"""For so long it is believed that nothing of a role outlives a lease; what changes meanwhile is found at the next look."""


def _clock_found(connection: Connection, around: Surroundings) -> list[str]:
    """Return that the clocks of server and broker differ, or nothing: ends and deadlines are told in the one and kept by the other."""
    before = around.now()
    ((there,),) = run(connection, sql.SQL("SELECT clock_timestamp()"))
    off = max(before - there, there - around.now())
    if off <= CLOCK_OFF:
        return []
    way = "behind" if there < before else "ahead of"
    return [f"clock: the server is more than {int(CLOCK_OFF.total_seconds())} s {way} the broker"]


def _own(name: str) -> str:
    """Return a name that a lease made; anything else is a defect or an attack, and nothing is done to it."""
    if not is_own_account(name):
        raise ValueError("not the name of a lease's account")
    return name


def _lent(effect: Effect) -> frozenset[str]:
    """Return the roles that a lease gives."""
    return frozenset(cast("list[str]", effect.detail["roles"]))


def _in_comment(name: str) -> str:
    """Return a name that cannot end the comment in which it stands."""
    return "".join(letter if letter.isprintable() and letter not in "*/" else "?" for letter in name)


def _lock(connection: Connection, account: str, statement: sql.Composed) -> None:
    """Lock a role of somebody else and end its sessions."""
    oids = roles_of(connection, [account])
    if oids:
        run(connection, statement)
        require_no_sessions(connection, [*oids.values()])


def _of_the_rest(failed: Mapping[str, Exception], proofs: Proofs) -> Proofs:
    """Return the proofs of those that did not fail: nobody waits for another's. Raises where it failed for all."""
    held = {name: proof for name, proof in proofs.items() if name not in failed}
    if failed and not held:
        raise next(iter(failed.values()))
    return held


def _locked(found: LockedOut, names: Sequence[str]) -> Proofs:
    proof: Mapping[str, JsonValue] = {"sessions": 0, "prepared": 0}
    return _of_the_rest(
        found.failed,
        {name: {"login": "locked" if name in found.there else "absent", **proof} for name in names},
    )


def _as_now(effects: Sequence[Effect], moved: Mapping[str, str]) -> list[Effect]:
    """Return these effects and, once more under the name that the role has now, those whose role was renamed."""
    return [*effects, *(replace(one, name=moved[one.name]) for one in effects if one.name in moved)]


def _print_of(name: str, one: Seen, key: str) -> str:
    """Return which role of this name it is, whether it can log in, and, where the owner lets us see it, what proves its owner."""
    if one.oid == 0 or is_own_account(name):
        return key
    return f"made={one.oid} login={'yes' if one.enabled else 'no'}{f' key={key}' if key else ''}"


def _dropped(connection: Connection, oids: Mapping[str, int]) -> dict[str, Exception]:
    """Drop roles together; where that fails, each alone. Return why by role; raises where one is still there, or its session.

    Sessions are looked for again: of somebody who was logging in while the role was being locked.
    """
    drop = sql.SQL("DROP ROLE {}").format(sql.SQL(", ").join(map(ident, oids)))
    left = sql.SQL("SELECT rolname FROM pg_roles WHERE rolname = ANY({})").format(sql.Literal([*oids]))
    try:
        roles, sessions = at_once(connection, [drop], [left, ending(oids.values())])
    except psycopg.Error as error:
        if connection.closed:
            raise
        if len(oids) == 1:
            return dict.fromkeys(oids, error)
        return {name: why for one, oid in oids.items() for name, why in _dropped(connection, {one: oid}).items()}
    if roles:
        raise RuntimeError(f"{len(roles)} roles are still there")
    if sessions:
        require_no_sessions(connection, [*oids.values()])
    return {}


class PostgresqlConnector:
    """One PostgreSQL server."""

    def __init__(self, config: PostgresqlConfig, around: Surroundings) -> None:
        self._config = config
        self._around = around
        self._lines = Lines(config, around)
        self._lendable: dict[tuple[frozenset[str], bool], datetime] = {}
        """Roles, and whether they may be set -> when nothing was found against lending them."""

    # -- making

    def plan(self, spec: LeaseSpec) -> Effect:
        """Plan one login role with memberships."""
        meaning = self._config.entitlements[spec.entitlement]
        return Effect(
            "postgresql",
            spec.account,
            {
                "roles": [*meaning.roles],
                "connection_limit": meaning.connection_limit,
                "set_role": meaning.set_role,
                "bare": not meaning.set_role,
                "valid_until": spec.ends_at.astimezone(UTC).isoformat(),
                "starts_at": spec.starts_at.astimezone(UTC).isoformat(),
            },
        )

    def apply(self, effect: Effect, deadline: datetime) -> Credential:
        """Create the role, grant the memberships and check clock and deadline on the server, in one transaction and one round trip."""
        _own(effect.name)
        password, authority = self._around.draw(), self._authority()
        secret = verifier(password, self._config.password_rounds, b64u_decode(self._around.draw())[:SALT_BYTES])
        with self._lines.line() as connection:
            self._require_lendable(connection, _lent(effect), set_role=not effect.detail.get("bare"))
            try:
                ((_, number),) = run(connection, self._birth(connection, effect, secret, deadline))
            except psycopg.Error as error:
                # The server undid all of it, unless it was stopping or the line broke: then nobody knows.
                if error.sqlstate is None or error.sqlstate.startswith(UNCERTAIN_CLASSES):
                    raise
                if error.sqlstate == NOT_NOW:
                    raise NotDone("it was too late, or the clocks of server and broker differ") from None
                raise NotDone(f"the server refused with {error.sqlstate}") from None
        return Credential(
            secret=Secret(password),
            username=effect.name,
            command=self._command(effect.name),
            files={CA_FILE: Secret(authority)} if authority else {},
            note=told("Save the file, open a terminal in its folder, and paste the password when psql asks for it.")
            if authority
            else told("Paste the password when psql asks for it."),
            handle={"number": int(number)},
        )

    def _birth(self, connection: Connection, effect: Effect, secret: str, deadline: datetime) -> sql.Composed:
        """Return the string that makes a role; a clock that is wrong, or a deadline that is past, is a division by zero."""
        modern = connection.info.server_version >= PROTOCOL_16
        how = " WITH INHERIT TRUE, SET FALSE" if modern and not effect.detail.get("set_role") else ""
        now = self._around.now()
        return sql.SQL(
            "SELECT 1 / (clock_timestamp() BETWEEN {earliest}::timestamptz AND {latest}::timestamptz)::int; "
            "CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS INHERIT "
            "CONNECTION LIMIT {limit} PASSWORD {secret} VALID UNTIL {until}; {grants}; "
            "SELECT 1 / (clock_timestamp() < {deadline}::timestamptz)::int, (SELECT oid FROM pg_roles WHERE rolname = {name})"
        ).format(
            name=sql.Literal(effect.name),
            earliest=stamp(now - CLOCK_OFF),
            latest=stamp(now + CLOCK_OFF),
            role=ident(effect.name),
            limit=sql.Literal(cast(int, effect.detail["connection_limit"])),
            secret=sql.Literal(secret),
            until=sql.Literal(str(effect.detail["valid_until"])),
            grants=sql.SQL("; ").join(
                sql.SQL("GRANT {} TO {}" + how).format(ident(role), ident(effect.name))
                for role in cast("list[str]", effect.detail["roles"])
            ),
            deadline=stamp(deadline),
        )

    def _require_lendable(self, connection: Connection, roles: frozenset[str], *, set_role: bool) -> None:
        """Raise NotReady for roles with rights that outlive a lease or beat its end; asked anew every half minute."""
        now = self._around.now()
        seen = self._lendable.get((roles, set_role))
        if seen is not None and timedelta() <= now - seen < LENDABLE:
            return
        against = next(objections(connection, self._lines, self._config, roles, set_role=set_role), None)
        if against is not None:
            raise NotReady(against.text)
        self._lendable[roles, set_role] = now

    def _authority(self) -> str:
        """Return the text of the file with the server's authorities, which the person needs too; empty where it is the system's."""
        if self._config.tls == "none" or not self._config.root_ca:
            return ""
        try:
            return Path(self._config.root_ca).read_text()
        except (OSError, UnicodeDecodeError):
            raise NotDone("the file of root_ca cannot be read") from None

    def _command(self, user: str) -> str:
        config = self._config
        parts = {"host": config.host, "port": str(config.port), "dbname": config.database, "user": user}
        parts["sslmode"] = "disable" if config.tls == "none" else "verify-full"
        if config.tls != "none":
            parts["sslrootcert"] = CA_FILE if config.root_ca else "system"
        return f'psql "{psycopg.conninfo.make_conninfo(**parts)}"'

    def bury(self, effect: Effect) -> None:
        """Take the name: a birth in progress is waited for, a later one fails on the name."""
        _own(effect.name)
        with self._lines.line() as connection, suppress(psycopg.errors.DuplicateObject):
            run(connection, sql.SQL("CREATE ROLE {} NOLOGIN CONNECTION LIMIT 0").format(ident(effect.name)))

    # -- ending

    def cut(self, effects: Sequence[Effect]) -> Proofs:
        """Lock the logins, end the sessions, roll prepared transactions back, read back; also of a role that was renamed meanwhile."""
        names = [_own(effect.name) for effect in effects]
        with self._lines.line() as connection:
            found = lock_out(connection, self._lines, names)
            moved, failed = renamed(connection, effects, found.there)
            if moved:
                more = lock_out(connection, self._lines, [*moved.values()])
                found.prepared |= more.prepared
                found.there |= {name: more.there[now] for name, now in moved.items() if now in more.there}
                failed |= {name: more.failed[now] for name, now in moved.items() if now in more.failed}
            for name, why in failed.items():
                found.failed.setdefault(name, why)
            proofs = _locked(found, names)
            held = _as_now([effect for effect in effects if effect.name in proofs], moved)
            lent = self._lent_prepared(connection, held) if found.prepared else {}
        return {name: {**proof, **lent.get(moved.get(name, name), {})} for name, proof in proofs.items()}

    def _lent_prepared(self, connection: Connection, effects: Sequence[Effect]) -> dict[str, dict[str, JsonValue]]:
        """Count transactions that were prepared while the lease lived as a role that it could set; roll them back where that is configured.

        The server writes down the role that was set, not who logged in: they may as well be an application's.
        """
        found = prepared_by_lent_roles(connection, effects)
        if found and self._config.roll_back_prepared:
            for name, xacts in found.items():
                for xact in sorted(xacts):
                    with suppress(CallFailed):  # counted
                        roll_back(connection, self._lines, name, xact)
            found = prepared_by_lent_roles(connection, effects)
        return {name: {"prepared_by_lent_roles": len(xacts)} for name, xacts in found.items()}

    def clean(self, effects: Sequence[Effect]) -> Proofs:
        """Neutralise what was left behind, take rights away in every database, drop the roles, read back."""
        names = [_own(effect.name) for effect in effects]
        with self._lines.line() as connection:
            there = left_by(connection, names)
            moved, lost = renamed(connection, effects, {name: left.oid for name, left in there.items()})
            there |= left_by(connection, [*moved.values()]) if moved else {}
            now = _as_now([effect for effect in effects if effect.name not in lost], moved)
            proofs: Proofs = {}
            try:
                disarmed, failed = self._disarm(connection, [effect for effect in now if effect.name in there])
                rest = [effect.name for effect in now if effect.name not in failed]
                proofs = self._clean(connection, rest, there) if rest else {}
            finally:
                for name in there.keys() - proofs.keys():
                    with suppress(psycopg.Error):  # the next attempt joins anew, and `probe` says what stays
                        leave(connection, name)
        failed |= lost
        for name, called in moved.items():  # gone is only who is gone under both names
            if called not in proofs:
                failed.setdefault(name, failed.get(called) or CallFailed("renamed"))
            disarmed.setdefault(name, disarmed.get(called, {}))
        return _of_the_rest(
            failed,
            {
                name: {**proofs[name], **proofs.get(moved.get(name, name), {}), **disarmed.get(name, {})}
                for name in names
                if name in proofs
            },
        )

    def _disarm(
        self, connection: Connection, effects: Sequence[Effect]
    ) -> tuple[dict[str, dict[str, JsonValue]], dict[str, Exception]]:
        """Take the rights of lent roles from routines that came into their hands, once for those who were lent the same."""
        by_roles: dict[frozenset[str], list[str]] = {}
        for effect in effects:
            if effect.detail.get("bare"):
                by_roles.setdefault(_lent(effect), []).append(effect.name)
        found: dict[str, dict[str, JsonValue]] = {}
        failed: dict[str, Exception] = {}
        for roles, accounts_ in by_roles.items():
            try:
                count = disarm_lent(connection, self._lines, accounts_[0], roles)
            except (CallFailed, Unreachable) as error:
                failed |= dict.fromkeys(accounts_, error)
            else:
                found |= {accounts_[0]: {"disarmed": count}} if count else {}
        return found, failed

    def _clean(self, connection: Connection, names: Sequence[str], there: Mapping[str, Left]) -> Proofs:
        """Drop roles after what they left is harmless; two round trips for those that left nothing."""
        oids = {name: there[name].oid for name in names if name in there}
        untidy = {name: oid for name, oid in oids.items() if there[name].traces}
        kept, failed = self._neutralise(connection, untidy) if untidy else ({}, {})
        for part in chunks(sorted(oids.keys() - failed.keys())):
            failed |= _dropped(connection, {name: oids[name] for name in part})
        proofs: Proofs = {
            name: {"account": "absent", **({"kept": kept[name]} if name in kept else {})} for name in names
        }
        return _of_the_rest(failed, proofs)

    def _neutralise(
        self, connection: Connection, oids: Mapping[str, int]
    ) -> tuple[dict[str, int], dict[str, Exception]]:
        """Make what these roles left behind harmless, everywhere, and only then keep their data; return how much, and what failed."""
        until = self._around.now() + CLEAN_FOR
        kept: dict[str, int] = {}
        failed: dict[str, Exception] = {}
        places = traces(connection, oids)
        for name in places:
            join(connection, name)
        for act in (disarm, keep):
            for name, databases in places.items():
                place = name if is_own_account(name) else f"{ACCOUNT_PREFIX}renamed"
                leaver = Leaver(name, oids[name], self._config.quarantine, f"{place}-{self._around.draw()[:8]}")
                for database in sorted({database or self._config.database for database in databases}):
                    work = Work(leaver, lambda: self._around.now() > until)
                    try:
                        with self._lines.line(database) as other:
                            work.on(other, act)
                    except (psycopg.Error, CallFailed, Unreachable) as error:
                        work.failures.append(error)
                    kept[name] = kept.get(name, 0) + work.kept
                    for why in work.failures:
                        failed.setdefault(name, why)
        return kept, failed

    # -- looking

    def expects(self, effect: Effect, ends_at: datetime) -> Account:
        """Return the role with its memberships and no other right."""
        words = ("member of", "may set role") if effect.detail.get("set_role") else ("member of",)
        rights = frozenset(f"{word} {role}" for role in _lent(effect) for word in words)
        return Account(effect.name, rights, expires_at=ends_at, number=str(effect.detail.get("number", "")))

    def observe(self) -> Inventory:
        """List roles with attributes, memberships, sessions, ends, and in which databases they own or may do something."""
        with self._lines.line() as connection:
            seen = accounts(connection, self._lines, self._config)
            clock = _clock_found(connection, self._around)
            prints, broken = fingerprints(connection)
            modern = connection.info.server_version >= PROTOCOL_16
        coverage = {"accounts", "attributes", "memberships", "expiry", "sessions", "owned objects", "grants"}
        if prints:
            coverage.add("keys")
        found = {
            name: Account(
                name,
                frozenset(one.rights if name != self._config.user else self._beyond(one, modern=modern)),
                one.sessions,
                one.enabled,
                one.expires_at,
                _print_of(name, one, prints.get(name, "")),
                frozenset(one.owns),
                str(one.oid or ""),
            )
            for name, one in seen.items()
        }
        if clock:
            found[CLOCK] = Account(CLOCK, frozenset(clock))
        if broken:
            found[OWNERS] = Account(OWNERS, frozenset(broken))
        return Inventory(found, frozenset(coverage), own=self._config.user, helpers=frozenset({EVERYBODY, FIRING}))

    def _beyond(self, one: Seen, *, modern: bool) -> set[str]:
        """Return the rights of the broker's own role that do not come and go with leases and entitlements."""
        own = {self._config.quarantine, "pg_signal_backend", "pg_use_reserved_connections"}
        usual = {f"member of {group}{how}" for group in own for how in ("", " with admin option")}
        # Before version 16 no membership says that its role is neither inherited nor set.
        tied = {f"member of {role}{how}" for role in self._config.lent() for how in ("", " with admin option")}
        usual |= {f"{right}{TIED}" for right in tied} | (set() if modern else tied)
        return {right for right in one.rights - usual if not right.startswith(f"member of {ACCOUNT_PREFIX}")}

    def quarantine(self, account: str, *, remove: bool) -> Quarantined:
        """Lock a role and end its sessions; `remove`: drop it, if that takes nothing along but the role.

        A role that a lease made is ended as one. A stranger is never looked through for leftovers: what it owns or was granted may be the
        application's, so it stays locked, and the owner is told what to run. It keeps its password: who was locked by mistake is unlocked.
        """
        if account in (self._config.user, self._config.quarantine):
            return Quarantined(False)
        if account == CLOCK:
            return Quarantined(False, "set the clock of the server or of the broker, and let a time service keep both")
        if account == OWNERS:
            return Quarantined(False, "install the functions anew that `jitaccess targets setup postgresql` prints")
        lock = sql.SQL("ALTER ROLE {} NOLOGIN;").format(ident(account))
        if account.startswith("pg_"):
            return Quarantined(False, self._reserved(account))
        with self._lines.line() as connection:
            try:
                if is_own_account(account):
                    _locked(lock_out(connection, self._lines, [account]), [account])
                    if remove:
                        self._clean(connection, [account], left_by(connection, [account]))
                    return Quarantined(True)
                _lock(connection, account, lock)
            except psycopg.errors.InsufficientPrivilege:
                if not disable(connection, account):
                    return Quarantined(
                        False, f"DROP ROLE {ident(account).as_string()};" if remove else lock.as_string()
                    )
                require_no_sessions(connection, [*roles_of(connection, [account]).values()])
            return Quarantined(True, self._drop_stranger(connection, account) if remove else "")

    def _reserved(self, account: str) -> str:
        """Return what takes a role down that has a name of the server's own: the server alters none of these, for anybody."""
        with self._lines.line() as connection:
            seen = accounts(connection, self._lines, self._config).get(account)
        rights = sorted((seen.rights if seen is not None else set()) - {*ATTRIBUTES})
        row = sql.SQL(
            "UPDATE pg_authid SET rolcanlogin = false, rolsuper = false, rolcreaterole = false, rolcreatedb = false, "
            "rolreplication = false, rolbypassrls = false WHERE rolname = {};"
        )
        return "\n".join([row.format(sql.Literal(account)).as_string(), *statements(account, rights).splitlines()])

    def _drop_stranger(self, connection: Connection, account: str) -> str:
        """Drop a role that owns nothing, was granted nothing and has no members; else return what the owner would have to run."""
        oids = roles_of(connection, [account])
        if not oids:
            return ""
        drop = sql.SQL("DROP ROLE {};").format(ident(account)).as_string()
        places = traces(connection, oids).get(account, set())
        members = run(connection, sql.SQL("SELECT 1 FROM pg_auth_members WHERE roleid = %s LIMIT 1"), [oids[account]])
        if not places and not members:
            try:
                run(connection, sql.SQL("DROP ROLE {}").format(ident(account)))
            except (psycopg.errors.InsufficientPrivilege, psycopg.errors.DependentObjectsStillExist):
                return drop
            return ""
        hand_over = sql.SQL("REASSIGN OWNED BY {0} TO {1}; DROP OWNED BY {0};")
        text = hand_over.format(ident(account), ident(self._config.quarantine)).as_string()
        wheres = sorted({place or self._config.database for place in places})
        return " ".join([*(f"/* in the database {_in_comment(place)} */ {text}" for place in wheres), drop])

    def undoing(self, account: str, rights: Sequence[str]) -> str:
        """Return the statements with which the server's owner takes these rights back; where there is none, what to look at."""
        return statements(account, rights)

    # -- the broker's own account

    def probe(self) -> tuple[str, ...]:
        """Compare the broker's own role with what it needs."""
        with self._lines.line() as connection:
            return (*_clock_found(connection, self._around), *findings(connection, self._lines, self._config))

    def rotate_own(self, old: Secret, new: Secret) -> None:
        """Set the new password as a verifier; with the old one, or with the new one when that was done before."""
        for secret in (old, new):
            try:
                connection = self._lines.connect(secret)
            except psycopg.OperationalError:
                continue
            with connection:
                user = self._config.user
                verifier = connection.pgconn.encrypt_password(new.reveal().encode(), user.encode(), b"scram-sha-256")
                change = sql.SQL("ALTER ROLE {} PASSWORD {}").format(ident(user), sql.Literal(verifier.decode()))
                run(connection, change)
            self._lines.connect(new).close()
            return
        raise Unreachable("the server takes neither the old nor the new secret of the broker")

    def close(self) -> None:
        """Close kept connections."""
        self._lines.close()
