"""`policy explain --active`: what would somebody on this instance's register get, over what that person holds? Reading it is an event."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from jitaccess.broker.ask import Ask
from jitaccess.broker.explaining import explained, explained_of, typed
from jitaccess.cli import root
from jitaccess.domain.events import EventType
from jitaccess.errors import JitError, Kind
from jitaccess.policy.evaluate import AskKind, AskTerm, CredentialClass, Effect
from jitaccess.store.tables import Event
from tests.support.world import RELEASE, World
from tests.support.worlds import prepared_sqlite, sqlite_world

__all__ = ["prepared_sqlite", "sqlite_world"]
VIEWER = Ask("treasury", "viewer", {}, None, "")


@pytest.fixture
def config(sqlite_world: World, tmp_path: Path) -> Path:
    """Give a configuration by which the command finds the world."""
    settings = sqlite_world.broker.settings
    made = tmp_path / "explain.toml"
    made.write_text(
        f'[server]\npublic_url = "{settings.server.public_url}"\n\n[store]\nurl = "{settings.store.url}"\n\n'
        f'[keys]\nwrapping_key_file = "{settings.keys.wrapping_key_file}"\n\n[log]\norigin = "{settings.log.origin}"\n'
    )
    return made


def asked(config: Path, *arguments: str) -> Result:
    command = ["policy", "explain", "--active", "--target", "treasury", *arguments]
    return CliRunner().invoke(root, command, env={"JIT_CONFIG": str(config)})


def test_the_command_explains_over_the_instances_own_records_and_notes_it(sqlite_world: World, config: Path) -> None:
    fields = [word for name, value in RELEASE.items() for word in ("--input", f"{name}={value}")]
    found = asked(config, "--entitlement", "releaser", "--person", "arta.krasniqi@mof.example", *fields)
    assert found.exception is None, found.exception
    assert found.output.startswith("permit\n")
    assert "rule release-payments: permits" in found.output
    assert "line: Blerim Gashi" in found.output
    with sqlite_world.broker.read() as view:
        (event,) = view.all(select(Event).where(Event.type == EventType.ADMIN_READ.value))
    assert sqlite_world.person("arta") in event.leaf
    sqlite_world.hold("arta")
    held = asked(config, "--entitlement", "viewer", "--person", sqlite_world.person("arta"))
    assert "blocked: This person is on hold." in held.output


def test_nobody_of_that_name_is_told(config: Path) -> None:
    found = asked(config, "--entitlement", "viewer", "--person", "nobody@mof.example")
    assert isinstance(found.exception, JitError)
    assert found.exception.message == "Nobody on the register has the id or mail address nobody@mof.example."


@pytest.mark.covers("R71")
@pytest.mark.parametrize("who", ["drita", "nobody"])
def test_who_may_not_ask_about_others_is_refused_before_anybody_is_looked_up(sqlite_world: World, who: str) -> None:
    world = sqlite_world
    person = world.seeded.people.get(who, who)
    with world.broker.read() as view:
        with pytest.raises(JitError) as refused:
            explained(view, world.broker, world.current("arta"), VIEWER, person=person)
        assert refused.value.kind is Kind.FORBIDDEN
        own = explained(view, world.broker, world.current("arta"), VIEWER, person=world.person("arta"))
        assert own.explanation.decision.effect is Effect.PERMIT
        with pytest.raises(JitError) as unknown:
            explained_of(view, world.broker, "nobody", VIEWER)
        assert unknown.value.kind is Kind.NOT_FOUND


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (AskKind.INTEGER, "125000000", 125_000_000),
        (AskKind.INTEGER, "1.250.000", 1_250_000),
        (AskKind.INTEGER, "-5", -5),
        (AskKind.INTEGER, "--5", "--5"),
        (AskKind.INTEGER, "²", "²"),
        (AskKind.INTEGER, "", ""),
        (AskKind.INTEGER, "1" * 17, "1" * 17),
        (AskKind.BOOLEAN, "yes", True),
        (AskKind.BOOLEAN, "False", False),
        (AskKind.BOOLEAN, "maybe", "maybe"),
        (AskKind.STRING, "000417", "000417"),
        (AskKind.STRING, "yes", "yes"),
    ],
)
def test_a_field_is_read_as_the_kind_of_value_that_is_asked_for(kind: AskKind, text: str, value: object) -> None:
    found = typed(AskTerm("field", kind, "Field"), text)
    assert (found, type(found)) == (value, type(value))


def test_the_kind_of_passkey_that_was_assumed_is_told(sqlite_world: World) -> None:
    world = sqlite_world
    with world.broker.read() as view:
        usual = explained_of(view, world.broker, world.person("arta"), VIEWER)
        weaker = explained_of(view, world.broker, world.person("arta"), VIEWER, credential=CredentialClass.ANY)
    assert (usual.credential, weaker.credential) == (CredentialClass.DEVICE_BOUND, CredentialClass.ANY)
