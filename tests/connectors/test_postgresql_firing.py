"""PostgreSQL: what works for whoever comes by, and what somebody else gave, is found, and the statement that is printed truly undoes it."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from jitaccess.broker.compare import What, compare
from jitaccess.connectors.contract import Account, Connector
from jitaccess.connectors.postgresql.inventory import EVERYBODY, FIRING
from tests.connectors.kind_postgresql import MODERN
from tests.support.bench import born, end, open_connector, soon

KINDS = ("postgresql",)
SETUP = """
CREATE ROLE plain NOLOGIN; CREATE ROLE reader NOLOGIN; CREATE ROLE "De puty" NOLOGIN; CREATE ROLE club NOLOGIN;
CREATE TABLE data.pay (id int PRIMARY KEY, note text); CREATE DOMAIN data.email AS text;
GRANT USAGE ON SCHEMA data TO plain, "De puty", reader; GRANT SELECT ON data.thing TO plain;
GRANT SELECT ON data.pay TO plain WITH GRANT OPTION;
CREATE FOREIGN DATA WRAPPER w; CREATE SERVER loop FOREIGN DATA WRAPPER w;
CREATE TRIGGER old BEFORE UPDATE ON data.pay FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
"""
UNDO = """
DROP DOMAIN data.email; DROP TABLE data.pay; DROP FOREIGN DATA WRAPPER w CASCADE;
DROP OWNED BY plain, reader, "De puty", club CASCADE; DROP ROLE plain, reader, "De puty", club;
"""


@pytest.fixture
def version(bench: Any) -> Iterator[int]:
    """Make a role to lend, others beside it, and things to hang something on; say which server it is."""
    with bench.lending(SETUP, UNDO, "plain") as found:
        yield found


@pytest.fixture
def connector(bench: Any, version: int) -> Iterator[Connector]:
    """Open a connector that lends `plain` as it is, and so that it may be set."""
    entitlements = {"writer": {"roles": ["plain"], "set_role": True}, "bare": {"roles": ["plain"]}}
    found = open_connector(bench, {**bench.config(), "entitlements": entitlements})
    yield found
    found.close()


def more(before: dict[str, Account], after: dict[str, Account]) -> dict[str, list[str]]:
    """Return account -> what it has beyond what it had."""
    nothing = Account("nobody")
    found = {name: sorted(one.rights - before.get(name, nothing).rights) for name, one in after.items()}
    return {name: rights for name, rights in found.items() if rights}


def undone(bench: Any, connector: Any, extra: dict[str, list[str]]) -> None:
    """Let the owner run exactly what is printed; nothing is left to look at."""
    with bench.owner() as owner:
        for name, rights in extra.items():
            for line in connector.undoing(name, rights).splitlines():
                assert "look at" not in line
                owner.execute(line)


@pytest.mark.covers("R57")
def test_triggers_rules_checks_mappings_and_what_the_server_kept_from_everybody_are_found_and_undone(
    bench: Any, connector: Connector, version: int
) -> None:
    before = dict(connector.observe().accounts)
    condition = "pg_notify('leak', current_user || ':' || {}::text)::text = 'x'"
    with bench.owner() as owner:
        owner.execute(
            f'CREATE TRIGGER "leak it" BEFORE UPDATE ON data.pay FOR EACH ROW WHEN ({condition.format("NEW.note")}) '
            "EXECUTE FUNCTION suppress_redundant_updates_trigger(); "
            "CREATE RULE away AS ON DELETE TO data.pay DO INSTEAD NOTHING; "
            f"ALTER DOMAIN data.email ADD CONSTRAINT listens CHECK ({condition.format('VALUE')}); "
            "CREATE USER MAPPING FOR PUBLIC SERVER loop OPTIONS (password 'x'); "
            "CREATE USER MAPPING FOR \"De puty\" SERVER loop OPTIONS (password 'x'); "
            "GRANT EXECUTE ON FUNCTION pg_read_file(text), lo_export(oid, text) TO PUBLIC"
        )
    extra = more(before, dict(connector.observe().accounts))
    text = re.compile(r" \(text [0-9a-f]{16}\) in app$")
    assert {text.sub("", word) for word in extra[FIRING]} == {
        'trigger "leak it" on data.pay',
        "rule away on data.pay",
        "check listens of domain data.email",
        "mapping of PUBLIC on server loop in app",
        'mapping of "De puty" on server loop in app',
    }
    assert extra[EVERYBODY] == [
        "EXECUTE on routine lo_export(oid,text) in app",
        "EXECUTE on routine pg_read_file(text) in app",
    ]
    undone(bench, connector, extra)
    assert more(before, dict(connector.observe().accounts)) == {}


@pytest.mark.covers("R57")
@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE data.pay DISABLE TRIGGER old",
        "CREATE OR REPLACE TRIGGER old BEFORE UPDATE ON data.pay FOR EACH ROW WHEN (pg_notify('x', NEW.note)::text = '') "
        "EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    ],
    ids=["disabled", "rewritten"],
)
def test_a_trigger_that_was_changed_is_found(bench: Any, connector: Connector, change: str) -> None:
    before = dict(connector.observe().accounts)
    assert any(word.startswith("trigger old on data.pay") for word in before[FIRING].rights)
    with bench.owner() as owner:
        owner.execute(change)
    (found,) = more(before, dict(connector.observe().accounts))[FIRING]
    assert found.startswith("trigger old on data.pay")


@pytest.mark.covers("R57")
def test_what_a_lease_hangs_on_its_own_things_is_nobody_elses_matter(bench: Any, connector: Connector) -> None:
    before = dict(connector.observe().accounts)
    with bench.owner() as owner:
        owner.execute("CREATE SCHEMA room; GRANT ALL ON SCHEMA room TO plain")
    effect, credential = born(bench, connector)
    with bench.login(credential) as session:
        session.connection.execute(
            "CREATE TABLE room.mine (id int); CREATE RULE r AS ON DELETE TO room.mine DO INSTEAD NOTHING; "
            "CREATE TEMP TABLE short (id int); CREATE RULE s AS ON DELETE TO short DO INSTEAD NOTHING"
        )
        assert FIRING not in more(before, dict(connector.observe().accounts))
    end(connector, effect)
    with bench.owner() as owner:
        owner.execute("DROP SCHEMA room CASCADE")


@pytest.mark.covers("R57")
def test_a_membership_that_may_be_set_or_is_inherited_since_is_found(
    bench: Any, connector: Connector, version: int
) -> None:
    if version < MODERN:
        return  # there every membership is both
    # A grant option is no reason here: the look is about the lease's own membership.
    with bench.owner() as owner:
        owner.execute("REVOKE GRANT OPTION FOR SELECT ON data.pay FROM plain; CREATE ROLE app_login LOGIN")
        owner.execute("GRANT plain, club TO app_login WITH INHERIT FALSE, SET FALSE")
        effect, _ = born(bench, connector, entitlement="bare")
        explained = {effect.name: connector.expects(effect, soon(600))}

        def found() -> list[str]:
            seen = connector.observe()
            one = compare(seen, explained=explained, ending={}, excepted={}, known={}, enforced=False, first=True)
            return [word for finding in one if finding.what is What.RAISED for word in finding.extra]

        assert found() == []
        before = dict(connector.observe().accounts)
        owner.execute(f'GRANT plain TO "{effect.name}" WITH SET TRUE; GRANT plain TO jit_broker WITH SET TRUE')
        owner.execute("GRANT plain TO app_login WITH SET TRUE; GRANT club TO app_login WITH INHERIT TRUE")
        assert found() == ["may set role plain"]
        extra = more(before, dict(connector.observe().accounts))
        assert extra == {
            "app_login": ["member of club (not set)", "member of plain (not inherited)"],
            "jit_broker": ["member of plain with admin option (not inherited)"],
            effect.name: ["may set role plain"],
        }
        end(connector, effect)
        owner.execute("GRANT plain TO jit_broker WITH SET FALSE; DROP ROLE app_login")


@pytest.mark.covers("R57")
def test_what_somebody_else_gave_is_undone_by_whoever_gave_it(bench: Any, connector: Connector, version: int) -> None:
    before = dict(connector.observe().accounts)
    effect, credential = born(bench, connector)
    with bench.login(credential) as session:
        session.connection.execute(
            'SET ROLE plain; GRANT SELECT ON data.pay TO reader, PUBLIC; GRANT SELECT ON data.pay TO "De puty" WITH GRANT OPTION; '
            "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC; "
            'ALTER DEFAULT PRIVILEGES IN SCHEMA data GRANT EXECUTE ON FUNCTIONS TO "De puty"'
        )
    end(connector, effect)
    with bench.owner() as owner:
        owner.execute('SET ROLE "De puty"; GRANT SELECT ON data.pay TO club; RESET ROLE')
        if (
            version >= MODERN
        ):  # from here on a membership has a giver, and a superuser's REVOKE takes nobody else's back
            owner.execute('GRANT club TO "De puty" WITH ADMIN OPTION; GRANT club TO reader GRANTED BY "De puty"')
    extra = more(before, dict(connector.observe().accounts))
    assert "SELECT granted by plain on table data.pay in app" in extra["reader"]
    assert "SELECT granted by plain on table data.pay in app" in extra[EVERYBODY]
    assert 'SELECT granted by "De puty" on table data.pay in app' in extra["club"]
    assert 'gives by default EXECUTE on routines of schema data to "De puty" in app' in extra["plain"]
    assert "gives by default SELECT on tables to PUBLIC in app" in extra["plain"]
    assert ('member of club granted by "De puty"' in extra["reader"]) is (version >= MODERN)
    # Who got it last gives it back first.
    undone(bench, connector, {name: extra[name] for name in ("club", "reader", EVERYBODY, "De puty", "plain")})
    assert more(before, dict(connector.observe().accounts)) == {}


@pytest.mark.covers("R57")
def test_a_grant_option_is_taken_back_without_the_right_that_was_there(bench: Any, connector: Connector) -> None:
    with bench.owner() as owner:
        owner.execute("GRANT SELECT ON data.thing TO reader")
        before = dict(connector.observe().accounts)
        owner.execute("GRANT SELECT ON data.thing TO reader WITH GRANT OPTION")
        owner.execute("SET ROLE reader; GRANT SELECT ON data.thing TO club; RESET ROLE")
    extra = more(before, dict(connector.observe().accounts))
    assert extra["reader"] == ["SELECT with grant option on table data.thing in app"]
    undone(bench, connector, {"reader": extra["reader"]})
    assert more(before, dict(connector.observe().accounts)) == {}
    assert connector.observe().accounts["reader"].rights == before["reader"].rights, "what was there stays"


@pytest.mark.covers("R50")
def test_what_a_lent_role_gives_by_default_since_it_was_lent_is_taken_back_with_the_lease(
    bench: Any, connector: Connector
) -> None:
    with bench.owner() as owner:
        owner.execute("REVOKE GRANT OPTION FOR SELECT ON data.pay FROM plain")
    effect, credential = born(bench, connector, entitlement="bare")
    with bench.login(credential) as session:
        session.connection.execute(
            "ALTER DEFAULT PRIVILEGES FOR ROLE plain GRANT SELECT, INSERT ON TABLES TO PUBLIC; "
            'ALTER DEFAULT PRIVILEGES FOR ROLE plain IN SCHEMA data GRANT EXECUTE ON FUNCTIONS TO "De puty"'
        )
    assert end(connector, effect)[effect.name]["disarmed"] == 3
    with bench.owner() as owner:
        assert owner.execute("SELECT count(*) FROM pg_default_acl").fetchone() == (0,)
