"""Which kinds of target are there? One file a kind, found by entry point. The contract is in `connectors.contract`.

Third parties add a kind by an entry point in the group `jitaccess.connectors` that names a `ConnectorKind`
(docs/how-to/add-a-kind.md). Our own are in the table below as well, so that a plain source tree needs no installation.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from pydantic import BaseModel

from jitaccess.connectors.contract import ConnectorKind
from jitaccess.errors import JitError, Kind

ENTRY_POINTS = "jitaccess.connectors"
OWN: Mapping[str, str] = {
    "token": "jitaccess.connectors.token:KIND",
    "postgresql": "jitaccess.connectors.postgresql:KIND",
    "ldap": "jitaccess.connectors.ldap:KIND",
    "mariadb": "jitaccess.connectors.mariadb:KIND",
    "ssh_ca": "jitaccess.connectors.ssh_ca:KIND",
    "webhook": "jitaccess.connectors.webhook:KIND",
}
"""Name -> where its `ConnectorKind` is; the same lines stand in pyproject.toml."""


@cache
def load_kinds() -> Mapping[str, ConnectorKind]:
    """Return name -> kind: our own and those of installed packages; raises CONFIGURATION for one that cannot be used."""
    return kinds_at(entry_points(group=ENTRY_POINTS))


def kinds_at(points: Iterable[EntryPoint]) -> Mapping[str, ConnectorKind]:
    """Return our own kinds and those of these entry points by name; raises CONFIGURATION."""
    places = dict(OWN)
    for point in points:
        if places.setdefault(point.name, point.value) != point.value:
            raise JitError(Kind.CONFIGURATION, f"Two connectors are named {point.name}. Uninstall one of the packages.")
    return {name: _load(name, place) for name, place in places.items()}


def _load(name: str, place: str) -> ConnectorKind:
    try:
        found = EntryPoint(name, place, ENTRY_POINTS).load()
    except (ImportError, AttributeError) as error:
        raise JitError(Kind.CONFIGURATION, f"The connector {name} ({place}) cannot be loaded: {error}.") from error
    if not isinstance(found, ConnectorKind) or found.name != name:
        raise JitError(Kind.CONFIGURATION, f"{place} is not the connector kind {name}.")
    return found


def config_models(kinds: Mapping[str, ConnectorKind] | None = None) -> Mapping[str, type[BaseModel]]:
    """Return name -> model of what stands under `connector` in a policy file; the policy room checks with these."""
    return {name: kind.config for name, kind in (load_kinds() if kinds is None else kinds).items()}
