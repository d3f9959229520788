"""Another policy for a running world: the shipped folder with single terms changed, proposed and activated."""

import json
from collections.abc import Callable
from typing import Any

from jitaccess.broker import policies
from jitaccess.domain.values import LOCAL
from jitaccess.policy.load import load
from jitaccess.policy.yaml import parse
from tests.support.world import ROOT, World

Rules = dict[str, dict[str, Any]]


def swap(world: World, edit: Callable[[Rules], None]) -> None:
    """Activate the shipped policies after `edit` changed their rules, given by id."""
    files: dict[str, Any] = {
        path.name: parse(path.name, path.read_text()).value for path in (ROOT / "policies").glob("*.yaml")
    }
    edit({rule["id"]: rule for file in files.values() for rule in file.get("rules", [])})
    changed = load({name: json.dumps(value) for name, value in files.items()})
    with world.broker.begin(LOCAL) as tx:
        policies.activate(tx, policies.propose(tx, changed, by="local"))
