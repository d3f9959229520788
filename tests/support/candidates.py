"""Candidate policy sets for a running world: the active document with a change, looked at or stored as a proposal."""

import copy
from typing import Any

from jitaccess.broker import policies
from jitaccess.domain.values import LOCAL
from jitaccess.policy.evaluate import PolicySet
from tests.support.world import World


def document_without(world: World, *rules: str) -> dict[str, Any]:
    """Return a copy of the active document without some of its rules."""
    with world.broker.read() as view:
        found: dict[str, Any] = copy.deepcopy(dict(world.broker.policies.active(view).document))
    for rule in rules:
        del found["rules"][rule]
    return found


def proposed(world: World, document: dict[str, Any]) -> str:
    """Store a document as a proposal; return its id."""
    with world.broker.begin(LOCAL) as tx:
        return policies.propose(tx, PolicySet.from_document(document), by="local").id
