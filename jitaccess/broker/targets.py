"""Which targets are there, and how does the broker reach each? One connector a target, opened at its first use.

Every target is a compartment of its own (bulkhead): a few calls at once, so that one that hangs takes neither all serving threads nor the
others' time. The broker's own secrets are files of `targets.secrets_dir`, read when a connection is made; `<name>.next` holds the
new value while one is being exchanged (R52). Nothing here calls a target.
"""

import re
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from jitaccess.connectors.contract import Board, Connector, ConnectorKind, Secret, Surroundings, Unreachable
from jitaccess.errors import JitError, Kind
from jitaccess.proof.canonical import JsonValue, digest_b64u
from jitaccess.store.ids import new_secret
from jitaccess.store.tables import Lease
from jitaccess.store.turnstile import Turnstile

APPLY_LIMIT = timedelta(seconds=20)
"""How long a target may take to make a credential; later it must not take effect (design.md section 6)."""
LATE_BIRTH = timedelta(seconds=60)
"""How long after that limit the name of an uncertain effect stays taken: more than the target's clock may differ from ours."""
SLOT_WAIT_S = 2.0
MAX_SECRET_BYTES = 64 * 1024
NEXT = ".next"
COMING = re.compile(r"[A-Za-z0-9_-]{43}")
"""What a file `<name>.next` holds: 256 random bits in base64url, as `new_secret` draws them; anything else was not written to its end."""


def apply_by(lease: Lease) -> datetime:
    """Return when a lease's effect can no longer be born."""
    return min(lease.created_at + APPLY_LIMIT, lease.ends_at)


class Targets:
    """The kinds of target, and a connector for each target in use."""

    def __init__(
        self,
        kinds: Mapping[str, ConnectorKind],
        surroundings: Surroundings,
        *,
        at_once: int,
        boards: Callable[[str], Board] | None = None,
    ) -> None:
        self.kinds = kinds
        self.surroundings = surroundings
        self.boards = boards
        """Target -> its board; only kinds with `publishes` are given one."""
        self._at_once = at_once
        self._open: dict[tuple[str, str], Connector] = {}
        self._places: dict[str, Turnstile] = {}
        self._guard = threading.Lock()

    def kind(self, name: str) -> ConnectorKind:
        """Return a kind; raises UNAVAILABLE when the package that brings it is not installed."""
        found = self.kinds.get(name)
        if found is None:
            raise JitError(
                Kind.UNAVAILABLE, f"There is no connector of kind {name}. Install the package that brings it."
            )
        return found

    def inside(self) -> list[str]:
        """Return the kinds whose leases put nothing on a target."""
        return [name for name, kind in self.kinds.items() if not kind.outside]

    def at(self, target: str, connector: Mapping[str, JsonValue]) -> Connector:
        """Return the connector of a target with this configuration; raises CONFIGURATION for one that its kind does not take."""
        key = (target, digest_b64u(dict(connector)))
        with self._guard:
            known = self._open.get(key)
            if known is None:
                known = self._open[key] = self._made(target, connector)
            return known

    def _made(self, target: str, connector: Mapping[str, JsonValue]) -> Connector:
        kind = self.kind(str(connector["kind"]))
        try:
            config = kind.config.model_validate(dict(connector))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise JitError(
                Kind.CONFIGURATION, f"The target {target} cannot be used: {place}: {first['msg']}."
            ) from error
        board = self.boards(target) if kind.publishes and self.boards is not None else None
        return kind.open(config, replace(self.surroundings, board=board))

    @contextmanager
    def slot(self, target: str) -> Iterator[None]:
        """Take one of a target's places, in the order of coming; raises UNAVAILABLE when all stay taken."""
        with self._guard:
            places = self._places.setdefault(target, Turnstile(self._at_once))
        if not places.enter(SLOT_WAIT_S):
            raise JitError(Kind.UNAVAILABLE, "This system answers too slowly at the moment. Try again in a minute.")
        try:
            yield
        finally:
            places.leave()

    def close(self) -> None:
        """Give all connections back."""
        with self._guard:
            for connector in self._open.values():
                connector.close()
            self._open.clear()


def open_targets(
    kinds: Mapping[str, ConnectorKind],
    secrets_dir: Path,
    now: Callable[[], datetime],
    *,
    at_once: int,
    boards: Callable[[str], Board] | None = None,
) -> Targets:
    """Return the targets with secrets from a folder, and boards for those whose hosts come and fetch."""
    return Targets(kinds, Surroundings(secret_files(secrets_dir), new_secret, now), at_once=at_once, boards=boards)


def secret_files(folder: Path) -> Callable[[str], Sequence[Secret]]:
    """Return a reader of secrets: name -> the value in force, then the next one where an exchange is under way."""

    def read(name: str) -> Sequence[Secret]:
        found: list[Secret] = []
        if (current := read_secret(folder / name)) is not None:
            if not current.reveal():
                raise Unreachable(f"the file {name} of targets.secrets_dir is empty")
            found.append(current)
        coming = read_secret(folder / f"{name}{NEXT}")
        if coming is not None and COMING.fullmatch(coming.reveal()):  # what is not whole was never told to a target
            found.append(coming)
        if not found:
            raise Unreachable(f"the secret {name} is not in the folder of targets.secrets_dir")
        return found

    return read


def read_secret(file: Path) -> Secret | None:
    """Return a secret from a file without its last line break; None when there is none. Raises Unreachable for one that others may read."""
    try:
        with file.open("rb") as stream:
            if stat.S_IMODE(file.stat().st_mode) & 0o077:
                raise Unreachable(f"others may read {file.name}: chmod 600 it")
            raw = stream.read(MAX_SECRET_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unreachable(f"the secret {file.name} cannot be read") from error
    try:
        return Secret(raw.decode().removesuffix("\n"))
    except UnicodeDecodeError:
        raise Unreachable(f"the secret {file.name} is not plain text") from None
