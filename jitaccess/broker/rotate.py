"""How is the broker's own secret on a target exchanged, so that a crash at any point loses nothing? (R52)

1 the new secret is on disk whole, beside the old one, before the target hears of it · 2 the target takes it · 3 it replaces the old one ·
4 the log tells of it. A crash before 1 leaves a hidden file that nobody reads. A crash after 1: the old one still works, and the next
try goes on with the same new one. A crash after 2: connections try both. Nothing else may use the secret meanwhile, so two targets never
share one that is rotated.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from jitaccess.broker.context import Broker
from jitaccess.broker.cut import error_word
from jitaccess.broker.targets import COMING, NEXT, read_secret
from jitaccess.connectors.contract import NotDone, Secret, Unreachable
from jitaccess.domain.events import EventType
from jitaccess.domain.values import LOCAL
from jitaccess.errors import JitError, Kind
from jitaccess.policy.evaluate import PolicySet, TargetFacts
from jitaccess.proof.canonical import JsonValue
from jitaccess.store.ids import new_secret
from jitaccess.told import told

LOCK = ".lock"


def rotate(broker: Broker, target_id: str) -> str:
    """Exchange the broker's own secret on a target; return its name. Safe to repeat after a crash.

    Raises NOT_FOUND, INVALID (the kind has no secret there, or another target uses it) and UNAVAILABLE.
    """
    with broker.read() as view:
        policies = broker.policies.active(view)
    facts = policies.targets.get(target_id)
    if facts is None:
        raise JitError(Kind.NOT_FOUND, told("The policy knows no target %(target)s.", target=target_id))
    name = _secret_of(facts, policies)
    folder = broker.settings.targets.secrets_dir
    with _alone(folder):
        _exchange(broker, facts, folder / name, folder / f"{name}{NEXT}")
    with broker.begin(LOCAL) as tx:
        tx.record(EventType.TARGET_SECRET_ROTATED, subject={"target": facts.id}, body={"secret": name})  # 4
    return name


def _secret_of(facts: TargetFacts, policies: PolicySet) -> str:
    name = facts.connector.get("secret")
    if not isinstance(name, str):
        raise JitError(Kind.INVALID, told("The broker has no secret on %(target)s.", target=facts.id))
    others = [other.id for other in policies.targets.values() if other.id != facts.id and uses(other.connector, name)]
    if others:
        names = ", ".join(sorted(others))
        raise JitError(
            Kind.INVALID, told("Other targets use this secret too: %(names)s. Give each its own.", names=names)
        )
    return name


def uses(connector: Mapping[str, JsonValue], name: str) -> bool:
    """Say whether a target's configuration names this secret."""
    return connector.get("secret") == name


def _exchange(broker: Broker, facts: TargetFacts, file: Path, beside: Path) -> None:
    connector = broker.targets.at(facts.id, facts.connector)
    old = _read(file)
    new = _coming(beside)
    if new is None:
        new = Secret(new_secret())
        write_secret(beside, new)  # 1
    try:
        connector.rotate_own(old, new)  # 2
    except NotDone as error:
        beside.unlink()
        raise JitError(Kind.INVALID, told("The broker has no secret on %(target)s.", target=facts.id)) from error
    except Exception as error:  # a target may fail in any way; both secrets stay, and trying again goes on from here
        word = error_word(error)
        raise JitError(
            Kind.UNAVAILABLE,
            told("The target did not take the new secret (%(word)s). The old one is kept: try again.", word=word),
        ) from error
    os.replace(beside, file)  # 3
    _settle(file.parent)


def _read(file: Path) -> Secret:
    found = _read_if_there(file)
    if found is None:
        raise JitError(Kind.CONFIGURATION, told("The secret %(name)s is not in the folder.", name=file.name))
    return found


def _read_if_there(file: Path) -> Secret | None:
    try:
        return read_secret(file)
    except Unreachable as error:
        raise JitError(Kind.CONFIGURATION, str(error)) from error


def _coming(beside: Path) -> Secret | None:
    """Return what an exchange that did not come to its end wrote ahead; sweep away what it did not even write to its end."""
    for half in beside.parent.glob(f".{beside.name}.*"):
        half.unlink()
    found = _read_if_there(beside)
    if found is not None and not COMING.fullmatch(found.reveal()):
        raise JitError(
            Kind.CONFIGURATION,
            told(
                "The file %(name)s does not hold a secret as the broker writes them, so the system is not told of it. "
                "Delete it and try again.",
                name=beside.name,
            ),
        )
    return found


def write_secret(file: Path, secret: Secret) -> None:
    """Write a secret into a file that only its owner may read: it is there whole and lasts, or, after a crash, not at all."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        left = memoryview(secret.reveal().encode())
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(name, file)
    _settle(file.parent)


def _settle(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one exchange run at a time on this machine."""
    with (folder / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
