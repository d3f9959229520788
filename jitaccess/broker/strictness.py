"""Whose sessions are short, now? Approvers', administrators' and auditors', derived at every use (R14).

Who may sign follows from policy and register, and both change while sessions live. So a session carries the bounds it was opened with, and
at each use those of its person as he stands now are asked too; the shorter ones hold. Nobody's session grows longer again.
"""

from dataclasses import dataclass
from datetime import timedelta

from jitaccess.broker import deputies
from jitaccess.broker.context import Broker
from jitaccess.domain.approval import named
from jitaccess.identity.people import RESERVED, register
from jitaccess.identity.sessions import Bounds, BoundsOf
from jitaccess.settings import Sessions
from jitaccess.store.db import View


@dataclass(frozen=True, slots=True)
class _Signers:
    people: frozenset[str]
    """Whoever any step names, by group, by institution or after a wait, and all in reserved groups."""
    lent: bool
    """Whether any rule lets a deputy sign."""


def is_strict(view: View, broker: Broker, person_id: str) -> bool:
    """Say whether R14's shorter time-outs hold for a person now, as a deputy too."""
    known = view.cached("signers", lambda fresh: _signers(fresh, broker))
    return person_id in known.people or (known.lent and bool(deputies.standing_in(view, person_id)))


def _signers(view: View, broker: Broker) -> _Signers:
    people = register(view)
    found = frozenset[str]().union(*(people.members(group) for group in RESERVED))
    active = broker.policies.active_or_none(view)
    terms = [rule.terms.approval for rule in active.rules.values() if rule.terms.approval] if active is not None else []
    return _Signers(
        found.union(*(named(one, register=people) for one in terms)), any(one.deputies_s is not None for one in terms)
    )


def bounds(view: View, broker: Broker, person_id: str) -> Bounds:
    """Return how long a session of this person may last and lie idle, as things stand now."""
    return of(broker.settings.sessions, strict=is_strict(view, broker, person_id))


def bounds_of(broker: Broker) -> BoundsOf:
    """Return `bounds` of this broker, as `identity.sessions` asks for it."""
    return lambda view, person_id: bounds(view, broker, person_id)


def of(limits: Sessions, *, strict: bool) -> Bounds:
    """Return the bounds that settings give."""
    longest, idle = (limits.strict_max_s, limits.strict_idle_s) if strict else (limits.staff_max_s, limits.staff_idle_s)
    return Bounds(timedelta(seconds=longest), timedelta(seconds=idle), strict)
