"""Connectors: one file a kind, found by name. The contract is in `connectors.contract`.

Third parties add a kind by an entry point in the group `jitaccess.connectors`.
"""

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import cast

from jitaccess.connectors.contract import Connector
from jitaccess.connectors.token import TokenConnector
from jitaccess.errors import JitError, Kind

ENTRY_POINTS = "jitaccess.connectors"


def load_all(extra: Mapping[str, Connector] | None = None) -> Mapping[str, Connector]:
    """Return kind -> connector: the built-in ones, those of installed packages, and `extra` (tests, demo)."""
    found: dict[str, Connector] = {"token": TokenConnector()}
    for point in entry_points(group=ENTRY_POINTS):
        if point.name in found:
            raise JitError(Kind.CONFIGURATION, f"Two connectors are named {point.name}.")
        found[point.name] = cast(Connector, point.load()())
    return found | dict(extra or {})
