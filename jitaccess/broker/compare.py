"""Which accounts on a target does nothing explain? Pure: what was seen against what live leases and signed exceptions say (R57).

"Users created without any signature" inside a target is how money was stolen: an account is explained by a live lease, or by an exception
that stands in the signed policy, or it is a finding. An account that is explained, but is more than it should be, is one too. What nobody
can log in with is part of the target's own making only when it was there at the first look and reaches no further than its own
things: `CREATE ROLE shadow SUPERUSER` makes such a role, and one GRANT later somebody is it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from jitaccess.connectors.contract import Account, Inventory, is_own_account

LOGIN = "LOGIN"
"""Stands among the extra of a finding when an account that nobody could log in with can be used."""
LOCKED = "NOLOGIN"
"""Stands among the extra of a finding of what nobody can log in with: locking it would change nothing."""
_ATTRIBUTES = frozenset({"SUPERUSER", "CREATEROLE", "REPLICATION", "BYPASSRLS"})
"""Of PostgreSQL: those with which a role reaches what nobody granted it."""


class What(StrEnum):
    """What is wrong with an account; the first that applies, the worst first."""

    LEFTOVER = "leftover"
    """It has the name of a lease that has ended, or never was."""
    RESURRECTED = "resurrected"
    """It was gone, and is there again."""
    NEW = "new"
    RAISED = "raised"
    """It has rights beyond those that are explained."""
    KEY_CHANGED = "key_changed"
    """What proves its owner was changed."""
    MISSING = "missing"
    """It is a live lease's, and is not there, or under another name: its rights may go on where nobody looks for them."""
    EXPIRY = "expiry"
    """Its end on the target lies after the lease's, or was taken away."""


@dataclass(frozen=True, slots=True)
class Excepted:
    """An account that the signed policy names; `rights` None: those it had when it was first seen."""

    rights: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Remembered:
    """What was last known of an account."""

    rights: frozenset[str]
    fingerprint: str
    gone: bool
    finding: What | None = None
    """What is open of it."""
    extra: frozenset[str] = frozenset()
    """What the open finding says beyond."""
    held: bool = False
    """Whether the broker locked it."""


LOST = Remembered(frozenset(), "made=lost key=lost", gone=False)
"""What is known of an account that was known: somebody changed or deleted the record. Every right is beyond it, and any key another one."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An account that nothing explains, or not all of it."""

    account: str
    what: What
    extra: tuple[str, ...] = ()
    """Rights or things beyond what is explained, sorted."""


_PARTS = re.compile(r"(made|login|key)=(\S+)")


def parts(fingerprint: str) -> dict[str, str]:
    """Return the parts of a fingerprint by name; one that has none is a key."""
    return dict(_PARTS.findall(fingerprint)) or ({"key": fingerprint} if fingerprint else {})


def merged(known: str, now: str) -> str:
    """Return a fingerprint as it is now, with what only an earlier look could see."""
    if not _PARTS.match(now):
        return now or known
    both = {**parts(known), **parts(now)}
    return " ".join(f"{name}={both[name]}" for name in ("made", "login", "key") if name in both)


def mighty(rights: Iterable[str]) -> bool:
    """Say whether rights, in a target's own words, reach the whole target or can be handed on."""
    for right in rights:
        word, _, place = right.partition(" on ")
        if right in _ATTRIBUTES or place == "*.*" or (place and word in ("GRANT", "GRANT OPTION")):
            return True
    return False


def compare(
    seen: Inventory,
    *,
    explained: Mapping[str, Account],
    ending: Mapping[str, Account],
    excepted: Mapping[str, Excepted],
    known: Mapping[str, Remembered],
    enforced: bool,
    first: bool = False,
    named: frozenset[str] = frozenset(),
) -> Sequence[Finding]:
    """Return what is wrong, by account.

    `explained`: by live leases, with the number of those whose account must be there; `ending`: by leases that are being taken away, whose
    accounts may be there, with no more rights than they had, but are the revoker's matter; `enforced`: whether the target keeps the end
    of an account, so that a missing one is a finding;
    `first`: whether the target was never looked at before; `named`: roles that the signed configuration of the target lends, which may
    come later than the first look.
    """
    found: list[Finding] = []
    for name, account in sorted(seen.accounts.items()):
        if name in ending:
            finding = _beyond(account, ending[name])
        elif name == seen.own:
            # Its secret is exchanged by the broker itself; more rights nobody but the target's owner can have given it.
            finding = _of_exception(
                replace(account, fingerprint=""), excepted.get(name, Excepted(None)), known.get(name)
            )
        elif name in explained:
            ends = enforced and "expiry" in seen.coverage
            finding = _of_lease(account, explained[name], known.get(name), enforced=ends)
        elif name in excepted:
            finding = _of_exception(account, excepted[name], known.get(name))
        else:
            settled = first or name in named
            finding = _unexplained(account, known.get(name), settled=settled, helper=name in seen.helpers)
        if finding is not None:
            found.append(finding)
    there = {one.account for one in found}
    return [*found, *(one for one in _missing(seen, explained) if one.account not in there)]


def _missing(seen: Inventory, explained: Mapping[str, Account]) -> Iterable[Finding]:
    """Say of which lease the account that was made for it is not there under its name; and what it is called now, if it is there at all."""
    for name, expected in sorted(explained.items()):
        account = seen.accounts.get(name)
        if expected.number and (account is None or account.number not in ("", expected.number)):
            now = (one.name for one in seen.accounts.values() if one.number == expected.number)
            yield Finding(name, What.MISSING, tuple(sorted(f"now {other}" for other in now)))


def _beyond(account: Account, expected: Account) -> Finding | None:
    extra = account.rights - expected.rights
    return Finding(account.name, What.RAISED, tuple(sorted(extra))) if extra else None


def _of_lease(account: Account, expected: Account, known: Remembered | None, *, enforced: bool) -> Finding | None:
    if found := _beyond(account, expected):
        return found
    late = account.expires_at is None or (expected.expires_at is not None and account.expires_at > expected.expires_at)
    if enforced and late:
        return Finding(account.name, What.EXPIRY)
    if _other_key(account, known):
        return Finding(account.name, What.KEY_CHANGED)
    return None


def _other_key(account: Account, known: Remembered | None) -> bool:
    """Say whether a part that both looks saw has changed: the key, or which account of that name it is."""
    before, now = parts(known.fingerprint if known is not None else ""), parts(account.fingerprint)
    return any(now.get(part, before[part]) != before[part] for part in ("made", "key") if part in before)


def _of_exception(account: Account, allowed: Excepted, known: Remembered | None) -> Finding | None:
    if known is not None and known.gone and account.enabled:
        return Finding(account.name, What.RESURRECTED)
    rights = allowed.rights if allowed.rights is not None else (known.rights if known is not None else account.rights)
    before, now = parts(known.fingerprint if known is not None else ""), parts(account.fingerprint)
    opened = {LOGIN} if (before.get("login"), now.get("login")) == ("no", "yes") else set()
    if extra := (account.rights - rights) | opened:
        return Finding(account.name, What.RAISED, tuple(sorted(extra)))
    if _other_key(account, known):
        return Finding(account.name, What.KEY_CHANGED)
    return None


def _unexplained(account: Account, known: Remembered | None, *, settled: bool, helper: bool) -> Finding | None:
    extra = tuple(sorted(account.rights | account.owns))
    if is_own_account(account.name):
        return Finding(account.name, What.LEFTOVER, extra)
    if not account.enabled and not account.sessions:
        return _locked(account, known, settled=settled, helper=helper)
    if known is not None and known.gone:
        return Finding(account.name, What.RESURRECTED, extra)
    return Finding(account.name, What.NEW, extra)


def _locked(account: Account, known: Remembered | None, *, settled: bool, helper: bool) -> Finding | None:
    """Judge a role for rights, or one that was locked: nobody can be it now, but what it gives to others is watched."""
    extra = (LOCKED, *sorted(account.rights | account.owns))
    strong = not helper and mighty(account.rights)
    if known is None:
        return Finding(account.name, What.NEW, extra) if strong or not (settled or helper) else None
    if known.gone:
        return Finding(account.name, What.RESURRECTED, extra)
    if known.finding in (What.NEW, What.RESURRECTED) and not known.held and (strong or LOCKED in known.extra):
        return Finding(account.name, known.finding, extra)
    if more := account.rights - known.rights:
        return Finding(account.name, What.RAISED, tuple(sorted(more)))
    return Finding(account.name, What.NEW, extra) if strong and not known.held else None
