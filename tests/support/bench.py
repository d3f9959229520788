"""What must a kind of target bring, so that the contract tests can run against its real server?

One file `tests/connectors/kind_<name>.py` a kind, with `benches()`: a list of benches, one a version of the server. A bench starts the
real server as an unprivileged user with the broker's account as `setup` of the kind prints it, and looks at it with its owner's eyes,
past the connector: what it says is an oracle of its own.
"""

import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jitaccess.connectors.contract import (
    Connector,
    ConnectorKind,
    Credential,
    Effect,
    LeaseSpec,
    Proofs,
    Secret,
    Surroundings,
)
from jitaccess.store.ids import new_id, new_secret

WAIT_S, LOOK_AGAIN_S = 30.0, 0.02


class NotInstalled(Exception):
    """The server is not on this machine; the message says how to get it."""


class LoginRefused(Exception):
    """The server let nobody in."""


class Session(Protocol):
    """A session of a person on the target."""

    def alive(self) -> bool:
        """Say whether the session still can do what the entitlement allows."""
        ...

    def leave_behind(self, names: Sequence[str]) -> None:
        """Make whatever a person can make there, under these names; nothing where they can make nothing."""
        ...


class Bench(Protocol):
    """One real server."""

    label: str
    """Kind and version, for the matrix."""
    kind: ConnectorKind
    entitlement: str

    def start(self, folder: Path) -> None:
        """Start the server and set the broker's account up; raises NotInstalled where the server is not installed."""
        ...

    def stop(self) -> None:
        """Stop it and leave nothing."""
        ...

    def config(self) -> Mapping[str, object]:
        """Return what stands under `connector` in a policy."""
        ...

    def secret(self) -> Secret:
        """Return the broker's own secret as it was set up."""
        ...

    def nowhere(self) -> Mapping[str, object]:
        """Return a configuration of a place where nothing listens."""
        ...

    def given(self) -> Mapping[str, str]:
        """Return what a person hands in when opening."""
        ...

    def login(self, credential: Credential) -> AbstractContextManager[Session]:
        """Come in with a credential by the path that a person takes; raises LoginRefused."""
        ...

    def accounts(self) -> set[str]:
        """Return, with the owner's eyes, everything a lease could have made and everything `stray` made."""
        ...

    def stray(self) -> str | None:
        """Make an account that nothing explains, with the owner's rights; None where the kind has no accounts."""
        ...

    def can_log_in(self, account: str) -> bool:
        """Say, with the owner's eyes, whether an account could still be used."""
        ...


@runtime_checkable
class Acquainted(Protocol):
    """A bench of a kind that plans for entries that people have already: it makes a new person for each lease."""

    def about(self, spec: LeaseSpec) -> Mapping[str, Any]:
        """Return further fields of a lease's spec: `email`, and `found` as the connector looked."""
        ...


def load_benches(folder: Path) -> list[Bench]:
    """Return the benches of every `kind_*.py` of a folder."""
    found: list[Bench] = []
    for file in sorted(folder.glob("kind_*.py")):
        spec = importlib.util.spec_from_file_location(f"benches.{file.stem}", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found += module.benches()
    return found


def open_connector(bench: Bench, config: Mapping[str, object] | None = None, *secrets: Secret) -> Connector:
    """Return a connector to a bench as the broker would open it."""
    model = bench.kind.config.model_validate(dict(config or bench.config()))
    known = secrets or (bench.secret(),)
    around = Surroundings(lambda name: known, new_secret, lambda: datetime.now(UTC), getattr(bench, "board", None))
    return bench.kind.open(model, around)


def spec_of(bench: Bench, *, lasts: timedelta = timedelta(minutes=10), lease_id: str | None = None) -> LeaseSpec:
    """Return what a lease that begins now is about."""
    now = datetime.now(UTC)
    key = lease_id or new_id(now)
    spec = LeaseSpec(key, "person", "target", bench.entitlement, now, now + lasts, dict(bench.given()))
    return replace(spec, **bench.about(spec)) if isinstance(bench, Acquainted) else spec


def born(
    bench: Bench, connector: Connector, *, lasts: timedelta = timedelta(minutes=10), entitlement: str = ""
) -> tuple[Effect, Credential]:
    """Make what a lease that begins now gives: of the bench's own entitlement, or of another."""
    spec = spec_of(bench, lasts=lasts)
    effect = connector.plan(replace(spec, entitlement=entitlement) if entitlement else spec)
    return effect, connector.apply(effect, soon())


def end(connector: Connector, *effects: Effect) -> Proofs:
    """Cut and clean; return what the target said of the cleaning."""
    connector.cut(effects)
    return connector.clean(effects)


def refused(bench: Bench, credential: Credential) -> bool:
    """Say whether a credential lets nobody in, or in to nothing."""
    try:
        with bench.login(credential) as session:
            return not session.alive()
    except LoginRefused:
        return True


def await_(holds: Callable[[], bool]) -> None:
    """Wait until something holds; it must, within half a minute."""
    waited = 0.0
    while not holds() and waited < WAIT_S:
        time.sleep(LOOK_AGAIN_S)
        waited += LOOK_AGAIN_S
    assert holds()


def soon(seconds: float = 20.0) -> datetime:
    """Return a deadline."""
    return datetime.now(UTC) + timedelta(seconds=seconds)
