"""MariaDB: what a person may do with a lease, and everything of it ends: sessions, rights, events, whatever runs as somebody."""

import os
import shlex
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pymysql
import pytest

from jitaccess.broker.compare import Finding, Remembered, What, compare
from jitaccess.connectors.contract import (
    Account,
    Connector,
    Effect,
    Inventory,
    NotDone,
    NotReady,
    Secret,
    Surroundings,
    Unreachable,
)
from jitaccess.connectors.mariadb import EXAMPLE, KIND, MariadbConnector, setup, verifier
from jitaccess.domain.lifecycle import LeaseState
from jitaccess.store.ids import new_secret
from tests.support import mariadb
from tests.support.bench import Bench, LoginRefused, await_, born, end, open_connector, soon, spec_of
from tests.support.living import hand_over, lease, living

KINDS = ("mariadb",)
WAIT_S = 30.0
PROMISED_MS = 5_000
NAP = "CREATE OR REPLACE PROCEDURE app.nap() SQL SECURITY DEFINER DO SLEEP(60)"


class Busy:
    """A thread that is inside one statement until it is broken."""

    def __init__(self, session: Any, statement: str) -> None:
        self.broken = threading.Event()

        def run() -> None:
            with suppress(pymysql.Error, OSError):
                session.run(statement)
                return
            self.broken.set()

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def ended(self) -> bool:
        self._thread.join(WAIT_S)
        return self.broken.is_set()


# ---------------------------------------------------------------- sessions


@pytest.mark.covers("R49", "R50", "R55", "TRAP-10", "T-16")
def test_idle_busy_and_disguised_sessions_end_with_the_lease_and_nobody_comes_back(bench: Any, tmp_path: Path) -> None:
    bench.server.run(NAP)
    with living(bench, tmp_path) as world:
        found = hand_over(world, 3)
        credential, stop, gone, in_after = found.credential, threading.Event(), threading.Event(), list[str]()

        def knocking() -> None:
            while not stop.wait(0.01):
                was_gone = gone.is_set()
                with suppress(LoginRefused), bench.login(credential) as session:
                    if was_gone and session.alive():
                        in_after.append("in")

        knocker = threading.Thread(target=knocking)
        with bench.login(credential) as idle, bench.login(credential) as busy, bench.login(credential) as disguised:
            disguised.run("SET ROLE app_write")
            # Inside this the process list shows the owner's name; without performance_schema nobody could tell.
            hidden = "CALL app.nap()" if bench.tls else "SELECT SLEEP(60)"
            threads = [Busy(busy, "SELECT SLEEP(60)"), Busy(disguised, hidden)]
            knocker.start()
            await_(lambda: lease(world, found.lease.id).state == LeaseState.REVOKED)
            gone.set()
            assert all(thread.ended() for thread in threads)
            assert not idle.alive()
        time.sleep(0.5)
        stop.set()
        knocker.join()
        proof: Any = lease(world, found.lease.id).proof
    assert in_after == []
    assert (proof["cut"]["login"], proof["cut"]["sessions"]) == ("locked", 0)
    assert proof["cut"]["sessions_seen"] == ("all" if bench.tls else "visible")
    assert proof["clean"] == {"account": "absent", "sessions": 0}
    assert proof["lag_ms"] <= PROMISED_MS
    assert credential.username not in bench.accounts()


@pytest.mark.covers("R49")
def test_the_server_ends_open_sessions_by_itself_when_the_broker_is_dead(bench: Any, connector: Connector) -> None:
    bench.server.run(NAP)
    effect, credential = born(bench, connector, lasts=timedelta(seconds=2))
    with bench.login(credential) as idle, bench.login(credential) as disguised:
        thread = Busy(disguised, "CALL app.nap()" if bench.tls else "SELECT SLEEP(60)")
        assert thread.ended()
        await_(lambda: not idle.alive())
    assert not bench.can_log_in(effect.name)
    end(connector, effect)


@pytest.mark.covers("R49", "R51")
def test_a_server_that_would_not_end_accounts_or_hides_sessions_gets_none(bench: Any, connector: Connector) -> None:
    before = bench.accounts()
    bench.server.run("SET GLOBAL event_scheduler = OFF")
    with pytest.raises(NotDone, match="does not end accounts"):
        born(bench, connector)
    assert any("event_scheduler" in line for line in connector.probe())
    bench.server.run(
        "SET GLOBAL event_scheduler = ON", "ALTER DEFINER = jit_keeper@localhost EVENT jitaccess.tick DISABLE"
    )
    with pytest.raises(NotDone, match="does not end accounts"):
        born(bench, connector)
    bench.server.run("ALTER DEFINER = jit_keeper@localhost EVENT jitaccess.tick ENABLE")
    if not bench.tls:
        strict = open_connector(bench, {**bench.config(), "sessions": "all"})
        with pytest.raises(NotDone, match="does not show all sessions"):
            born(bench, strict)
        with pytest.raises(RuntimeError, match="performance_schema"):
            strict.cut([strict.plan(spec_of(bench))])
        assert any("performance_schema" in line for line in strict.probe())
        strict.close()
    assert bench.accounts() == before


@pytest.mark.covers("R50")
def test_prepared_transactions_are_rolled_back_where_that_is_allowed_and_counted_elsewhere(
    bench: Any, connector: Connector
) -> None:
    effect, credential = born(bench, connector)
    with bench.login(credential) as session:
        for statement in (
            "XA START 'it''s'",
            "INSERT INTO thing VALUES (9, 'xa')",
            "XA END 'it''s'",
            "XA PREPARE 'it''s'",
        ):
            session.run(statement)
        proof = connector.cut([effect])[effect.name]
    assert proof["prepared_by_anybody"] == (1 if bench.tls else 0)
    connector.clean([effect])
    with bench.server.owner() as owner, owner.cursor() as cursor:
        assert cursor.execute("XA RECOVER") == proof["prepared_by_anybody"]
        if bench.tls:
            cursor.execute("XA ROLLBACK 'it''s'")


@pytest.mark.covers("R50", "R51")
@pytest.mark.parametrize(
    "hold",
    [
        "FLUSH TABLES WITH READ LOCK",
        "LOCK TABLES mysql.global_priv WRITE",
        "LOCK TABLES jitaccess.lease WRITE, jitaccess.alias WRITE",
    ],
)
def test_a_session_that_keeps_the_tables_of_rights_locked_ends_first(
    bench: Any, connector: Connector, hold: str
) -> None:
    effect, credential = born(bench, connector)
    mighty = "RELOAD, LOCK TABLES, SELECT, INSERT ON *.*"
    bench.server.run(f"GRANT {mighty} TO app_write")  # somebody raises the role while it is lent
    try:
        with bench.login(credential) as session:
            session.run(hold)
            proof = connector.cut([effect])[effect.name]
            assert not session.alive()
    finally:
        bench.server.run(f"REVOKE {mighty} FROM app_write")
    assert (proof["login"], proof["sessions"]) == ("locked", 0)
    with pytest.raises(LoginRefused), bench.login(credential):
        pass
    connector.clean([effect])


@pytest.mark.covers("R49")
def test_the_server_ends_a_session_that_keeps_the_tables_of_rights_locked_by_itself(
    bench: Any, connector: Connector
) -> None:
    effect, credential = born(bench, connector, lasts=timedelta(seconds=2))
    bench.server.run("GRANT LOCK TABLES, SELECT, INSERT ON *.* TO app_write")
    with bench.login(credential) as session:
        session.run("LOCK TABLES mysql.global_priv WRITE, app.thing READ")
        await_(lambda: not session.alive())
    await_(lambda: not bench.can_log_in(effect.name))
    bench.server.run("REVOKE LOCK TABLES, SELECT, INSERT ON *.* FROM app_write")
    end(connector, effect)


@pytest.mark.covers("R50", "R51", "R57")
@pytest.mark.parametrize("name", ["backup_svc", "odd, `name"])
def test_an_account_that_was_given_another_name_is_found_and_ended_under_it(
    bench: Any, connector: Connector, name: str
) -> None:
    others = bench.accounts()
    known = connector.observe().accounts
    spec = spec_of(bench)
    effect = connector.plan(spec)
    credential = connector.apply(effect, soon())
    other = replace(credential, command=credential.command.replace(f"--user={effect.name}", f"'--user={name}'"))
    with bench.login(credential) as before:
        quoted = name.replace("`", "``")
        bench.server.run(f"RENAME USER `{effect.name}`@`%` TO `{quoted}`@`%`")
        with bench.login(other) as after:
            seen = connector.observe()
            explained = {effect.name: connector.expects(effect, spec.ends_at)}
            remembered = {key: Remembered(one.rights, one.fingerprint, gone=False) for key, one in known.items()}
            found = compare(seen, explained=explained, ending={}, excepted={}, known=remembered, enforced=True)
            (stranger,) = [one for one in found if f"has the password of {effect.name}" in one.extra]
            assert stranger.what is What.NEW
            (missing,) = [one for one in found if one.account == effect.name]
            assert (missing.what, missing.extra) == (What.RAISED, (f"renamed to {stranger.account}",))
            proof = connector.cut([effect])[effect.name]
            assert not before.alive()
            assert not after.alive()
    assert (proof["login"], proof["sessions"]) == ("locked", 0)
    for one in (credential, other):
        with pytest.raises(LoginRefused), bench.login(one):
            pass
    connector.clean([effect])
    assert bench.accounts() - others <= {"'PUBLIC'@%"}
    assert bench.server.run("SELECT * FROM jitaccess.alias") == []


@pytest.mark.covers("R49")
def test_the_server_ends_by_itself_what_was_given_another_name(bench: Any, connector: Connector) -> None:
    others = bench.accounts()
    effect, credential = born(bench, connector, lasts=timedelta(seconds=2))
    other = replace(credential, command=credential.command.replace(effect.name, "backup_svc"))
    with bench.login(credential) as before:
        bench.server.run(f"RENAME USER `{effect.name}`@`%` TO backup_svc@`%`")
        with bench.login(other) as after:
            await_(lambda: not before.alive() and not after.alive())
    assert not bench.can_log_in("backup_svc")
    end(connector, effect)
    assert bench.accounts() - others <= {"'PUBLIC'@%"}


@pytest.mark.covers("R57")
def test_a_live_lease_whose_account_was_dropped_is_a_finding_until_it_ends(bench: Any, connector: Connector) -> None:
    spec = spec_of(bench)
    effect = connector.plan(spec)
    connector.apply(effect, soon())
    bench.server.run(f"DROP USER `{effect.name}`@`%`")
    extra = connector.observe().accounts[effect.name].rights - connector.expects(effect, spec.ends_at).rights
    assert extra == {"dropped by hand"}
    assert connector.cut([effect])[effect.name]["login"] == "absent"
    connector.clean([effect])
    assert effect.name not in connector.observe().accounts


# ---------------------------------------------------------------- what is left behind


@pytest.mark.covers("R50")
def test_an_event_left_behind_is_stopped_whether_it_runs_as_the_person_or_as_the_role(
    bench: Any, connector: Connector
) -> None:
    bench.server.run("CREATE OR REPLACE TABLE app.hit (at DATETIME(6), who TEXT)", "GRANT EVENT ON app.* TO PUBLIC")
    bench.server.run("GRANT INSERT ON app.hit TO PUBLIC")
    effect, credential = born(bench, connector)
    every = "ON SCHEDULE EVERY 1 SECOND DO INSERT INTO app.hit VALUES (NOW(6), CONCAT(CURRENT_USER(), CURRENT_ROLE()))"
    with bench.login(credential) as session:
        session.run(f"CREATE EVENT app.mine {every.replace('CURRENT_ROLE()', '1')}")
        session.run(f"CREATE DEFINER = CURRENT_ROLE EVENT app.ours {every}")
        session.run("CREATE DEFINER = CURRENT_ROLE EVENT other.long ON SCHEDULE AT NOW() DO DO SLEEP(60)")
    await_(lambda: len(bench.server.run("SELECT DISTINCT who FROM app.hit")) == 2)
    long = "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE 'DO SLEEP(60)%'"
    await_(lambda: bench.server.run(long))
    connector.cut([effect])
    assert bench.server.run(long) == [], "the one that was running is broken off"
    hits = bench.server.run("SELECT COUNT(*) FROM app.hit")
    connector.clean([effect])
    time.sleep(2.1)
    assert bench.server.run("SELECT COUNT(*) FROM app.hit") == hits
    kept = bench.server.run("SELECT name, account FROM jitaccess.leftover WHERE kind = 'EVENT' AND place = 'app'")
    assert {(effect.name, "mine"), ("app_write", "ours")} <= {(account, name) for name, account in kept}
    bench.server.run("REVOKE EVENT ON app.* FROM PUBLIC", "REVOKE INSERT ON app.hit FROM PUBLIC", "DROP TABLE app.hit")


@pytest.mark.covers("R50", "R57")
def test_nothing_can_be_left_to_run_as_a_role_inside_the_lent_role_and_one_given_by_hand_is_seen(
    bench: Any, connector: Connector
) -> None:
    bench.server.run(
        "CREATE ROLE inner_one", "GRANT EVENT, SELECT ON app.* TO inner_one", "GRANT inner_one TO app_write"
    )
    spec = spec_of(bench)
    effect = connector.plan(spec)
    credential = connector.apply(effect, soon())
    deep = "CREATE DEFINER = {} EVENT app.deep ON SCHEDULE EVERY 1 SECOND DO DO SLEEP(60)"
    with bench.login(credential) as session:
        for statement in ("SET ROLE inner_one", deep.format("inner_one")):
            with pytest.raises(pymysql.Error):
                session.run(statement)
        bench.server.run(f"GRANT inner_one TO `{effect.name}`@`%`")
        assert "member of inner_one" in connector.observe().accounts[effect.name].rights
        session.run("SET ROLE inner_one")
        session.run(deep.format("CURRENT_ROLE"))
        seen = connector.observe().accounts["role inner_one"]
    assert "runs event app.deep" in seen.rights, "the owner's role is not ours to sweep: it is a finding"
    end(connector, effect)
    bench.server.run("DROP EVENT app.deep", "DROP ROLE inner_one")


@pytest.mark.covers("R50", "R51")
def test_a_role_that_somebody_gave_the_name_of_a_lease_keeps_nothing_open(bench: Any, connector: Connector) -> None:
    effect, credential = born(bench, connector)
    bench.server.run(f"CREATE ROLE `{effect.name}`")
    with bench.login(credential) as session:
        connector.cut([effect])
        assert not session.alive()
    connector.clean([effect])
    assert bench.server.run(f"SELECT User FROM mysql.global_priv WHERE User = '{effect.name}'") == []


@pytest.mark.covers("R50", "T-15")
def test_code_left_behind_runs_for_nobody_and_its_text_is_kept(bench: Any, connector: Connector) -> None:
    effect, credential = born(bench, connector)
    with bench.login(credential) as session:
        for statement in (
            "CREATE TABLE mine (note TEXT)",
            "INSERT INTO mine VALUES ('kept')",
            "CREATE PROCEDURE grab() SQL SECURITY INVOKER SELECT User FROM mysql.global_priv",
            "CREATE DEFINER = CURRENT_ROLE FUNCTION as_role() RETURNS INT RETURN (SELECT COUNT(*) FROM app.thing)",
            "CREATE VIEW peek AS SELECT note FROM thing",
            "CREATE TRIGGER trap BEFORE INSERT ON thing FOR EACH ROW SET NEW.note = 'changed'",
            "CREATE FUNCTION other.far() RETURNS INT RETURN 1",
        ):
            session.run(statement)
    connector.cut([effect])
    assert connector.clean([effect])[effect.name]["dropped"] == 4, "what ran as the role is put down to the role"
    for call in ("CALL app.grab()", "SELECT app.as_role()", "SELECT * FROM app.peek", "SELECT other.far()"):
        with pytest.raises(pymysql.Error):
            bench.server.run(call)
    bench.server.run("INSERT INTO app.thing VALUES (7, 'by the owner')")
    assert bench.server.run("SELECT note FROM app.thing WHERE id = 7") == [("by the owner",)]
    assert bench.server.run("SELECT note FROM app.mine") == [("kept",)], "data stays where it is: it belongs to nobody"
    rows = bench.server.run(f"SELECT body FROM jitaccess.leftover WHERE account = '{effect.name}' AND name = 'trap'")
    assert rows == [("SET NEW.note = 'changed'",)]
    bench.server.run("DELETE FROM app.thing WHERE id = 7", "DROP TABLE app.mine")


@pytest.mark.covers("R50", "R54")
@pytest.mark.parametrize(
    ("made", "gone"),
    [
        ("VIEW app.official AS SELECT note FROM app.thing", "VIEW app.official"),
        ("FUNCTION app.official() RETURNS INT RETURN 1", "FUNCTION app.official"),
        ("EVENT app.official ON SCHEDULE EVERY 1 HOUR DO SELECT 1", "EVENT app.official"),
        (
            "TRIGGER app.official BEFORE INSERT ON app.thing FOR EACH ROW SET NEW.note = NEW.note",
            "TRIGGER app.official",
        ),
    ],
)
def test_a_role_that_something_of_the_owners_runs_as_is_not_lent_and_nothing_of_it_is_dropped(
    bench: Any, connector: Connector, made: str, gone: str
) -> None:
    bench.server.run(f"CREATE DEFINER = app_write {made}")
    try:
        before = bench.accounts()
        with pytest.raises(NotReady, match="official runs as the role app_write since before"):
            born(bench, connector)
        assert bench.accounts() == before
        assert any("app.official runs as it, since before" in line for line in connector.probe())
    finally:
        bench.server.run(f"DROP {gone}")  # it is still there
    effect, _ = born(bench, connector)
    end(connector, effect)


@pytest.mark.covers("R50", "R54")
@pytest.mark.parametrize(
    ("given", "said", "holder"),
    [
        ("RELOAD ON *.*", "RELOAD on *.*", "app_write"),
        ("CONNECTION ADMIN, SELECT ON *.*", "CONNECTION ADMIN on *.*", "deep_role"),
        ("SUPER, SET USER ON *.*", "SUPER, SET USER on *.*", "PUBLIC"),
        ("READ ONLY ADMIN ON *.*", "READ ONLY ADMIN on *.*", "app_write"),
        ("EVENT, TRIGGER, CREATE ROUTINE ON *.*", "CREATE ROUTINE, EVENT, TRIGGER on *.*", "deep_role"),
        ("LOCK TABLES ON *.*", "LOCK TABLES on *.*", "PUBLIC"),
        ("ALL ON *.*", "INSERT, UPDATE, DELETE, CREATE, DROP, RELOAD", "app_write"),
        ("ALL ON `jitaccess`.*", "INSERT, UPDATE, DELETE", "deep_role"),
        ("INSERT, SELECT ON `m%`.*", "INSERT on m%.*", "PUBLIC"),
        ("DELETE ON jitaccess.lease", "DELETE on jitaccess.lease", "app_write"),
        ("SELECT, UPDATE (Priv) ON mysql.global_priv", "UPDATE on mysql.global_priv", "deep_role"),
        ("ALTER ROUTINE ON PROCEDURE jitaccess.cut", "ALTER ROUTINE on procedure jitaccess.cut", "PUBLIC"),
        ("SELECT ON app.* TO {} WITH GRANT OPTION", "GRANT OPTION on app.*", "app_write"),
        ("SELECT ON app.thing TO {} WITH GRANT OPTION", "GRANT OPTION on app.thing", "deep_role"),
    ],
)
def test_a_role_with_which_a_lease_outlives_or_beats_an_end_is_not_lent(
    bench: Any, connector: Connector, given: str, said: str, holder: str
) -> None:
    others = bench.accounts()
    grant = given if "{}" in given else f"{given} TO {{}}"
    own = grant.format(holder)
    revoke = grant.partition(" TO ")[0]
    bench.server.run("CREATE ROLE inner_role", "CREATE ROLE deep_role", "GRANT deep_role TO inner_role")
    bench.server.run("GRANT inner_role TO app_write", f"GRANT {own}")
    try:
        through = "" if holder == "app_write" else f" through {holder}"
        with pytest.raises(NotReady, match="app_write is not lent") as refused:
            born(bench, connector)
        (line,) = [line for line in connector.probe() if "outlives a lease or beats its end" in line]
        for text in (str(refused.value), line):
            assert said in text
        assert line.endswith(through)
    finally:
        if holder != "deep_role":
            bench.server.run(f"REVOKE {revoke} FROM {holder}")
            if "GRANT OPTION" in given:
                bench.server.run(f"REVOKE GRANT OPTION ON {revoke.partition(' ON ')[2]} FROM {holder}")
        bench.server.run("DROP ROLE deep_role", "DROP ROLE inner_role")
    assert bench.accounts() - others <= {"'PUBLIC'@%"}


@pytest.mark.covers("R54")
def test_a_role_that_reads_the_whole_server_is_lent(bench: Any, connector: Connector) -> None:
    reads = "SELECT, PROCESS, EXECUTE, SHOW DATABASES, SHOW VIEW, CREATE TEMPORARY TABLES ON *.*"
    bench.server.run("CREATE ROLE onlooker", f"GRANT {reads} TO onlooker", "GRANT SELECT ON mysql.* TO onlooker")
    bench.server.run("GRANT onlooker TO app_write")
    effect, _ = born(bench, connector)
    end(connector, effect)
    bench.server.run("DROP ROLE onlooker")


@pytest.mark.covers("R54")
def test_a_role_that_may_hand_on_what_it_holds_is_not_lent(bench: Any, connector: Connector) -> None:
    bench.server.run("CREATE ROLE held", "GRANT held TO app_write WITH ADMIN OPTION")
    with pytest.raises(NotReady, match="member of held with admin option"):
        born(bench, connector)
    bench.server.run("DROP ROLE held")


@pytest.mark.covers("R50")
def test_what_a_lease_left_as_its_role_holds_no_other_up_and_another_roles_end_drops_nothing_of_it(
    bench: Any, connector: Connector
) -> None:
    bench.server.run("CREATE ROLE app_read", "GRANT SELECT ON app.* TO app_read")
    bench.server.run("GRANT app_read TO jit_keeper@localhost WITH ADMIN OPTION")
    roles = {"writer": {"role": "app_write"}, "reader": {"role": "app_read"}}
    both = open_connector(bench, {**bench.config(), "entitlements": roles})
    first, credential = born(bench, both)
    with bench.login(credential) as session:
        session.run("CREATE DEFINER = CURRENT_ROLE FUNCTION app.as_role() RETURNS INT RETURN 1")
    assert any("made since it was lent" in line for line in both.probe())
    second, _ = born(bench, both)
    reader = both.plan(replace(spec_of(bench), entitlement="reader"))
    both.apply(reader, soon())
    end(both, reader)
    assert bench.server.run("SELECT 1 FROM mysql.proc WHERE name = 'as_role'") == [(1,)]
    end(both, first)
    assert bench.server.run("SELECT 1 FROM mysql.proc WHERE name = 'as_role'") == []
    end(both, second)
    both.close()
    bench.server.run("DROP ROLE app_read")


@pytest.mark.covers("R50", "R51")
def test_rights_given_by_hand_in_other_databases_go_with_the_account(bench: Any, connector: Connector) -> None:
    effect, credential = born(bench, connector)
    who = f"`{effect.name}`@`%`"
    bench.server.run("CREATE TABLE IF NOT EXISTS other.t (id INT)", "CREATE ROLE IF NOT EXISTS app_more")
    for statement in (
        f"GRANT SELECT ON *.* TO {who}",
        f"GRANT ALL ON other.* TO {who} WITH GRANT OPTION",
        f"GRANT SELECT (id) ON other.t TO {who}",
        f"GRANT app_more TO {who} WITH ADMIN OPTION",
        f"CREATE USER `{effect.name}`@`10.%` IDENTIFIED BY 'second door'",
    ):
        bench.server.run(statement)
    with bench.login(credential, "other") as session:
        session.run("SET ROLE app_more")
        connector.cut([effect])
        assert not session.alive()
    connector.clean([effect])
    tables = ("global_priv", "db", "tables_priv", "columns_priv", "roles_mapping")
    for table in tables:
        assert bench.server.run(f"SELECT * FROM mysql.{table} WHERE User = '{effect.name}'") == [], table
    bench.server.run("DROP ROLE app_more", "DROP TABLE other.t")


# ---------------------------------------------------------------- looking


@pytest.mark.covers("R57")
def test_what_was_tampered_with_is_seen(bench: Any, connector: Connector) -> None:
    spec = spec_of(bench)
    effect = connector.plan(spec)
    credential = connector.apply(effect, soon())

    def extra() -> frozenset[str]:
        return connector.observe().accounts[effect.name].rights - connector.expects(effect, spec.ends_at).rights

    before = connector.observe().accounts[effect.name]
    assert extra() == frozenset()
    with bench.login(credential) as session:
        session.run("SET PASSWORD = PASSWORD('my own')")
    who = f"`{effect.name}`@`%`"
    for statement in (
        f"GRANT CREATE USER ON *.* TO {who}",
        f"GRANT UPDATE ON other.* TO {who}",
        f"ALTER USER {who} IDENTIFIED VIA mysql_native_password USING 'invalid' OR unix_socket REQUIRE NONE PASSWORD EXPIRE NEVER",
    ):
        bench.server.run(statement)
    after = connector.observe().accounts[effect.name]
    wanted = {"password changed by hand", "CREATE USER on *.*", "UPDATE on other.*", "signs in by unix_socket"}
    assert extra() == wanted | ({"without TLS"} if bench.tls else set())
    assert before.expires_at is not None
    assert after.expires_at is None
    assert after.fingerprint != before.fingerprint
    bench.server.run(f"CREATE USER `{effect.name}`@`10.%` IDENTIFIED BY 'second door'")
    assert {f"{effect.name}@%", f"{effect.name}@10.%"} <= connector.observe().accounts.keys()
    end(connector, effect)


@pytest.mark.covers("R57")
def test_an_end_that_was_moved_on_the_server_is_seen(bench: Any, connector: Connector) -> None:
    spec = spec_of(bench)
    effect = connector.plan(spec)
    connector.apply(effect, soon())
    bench.server.run("UPDATE jitaccess.lease SET ends_at = ends_at + INTERVAL 1 DAY")
    found = connector.observe().accounts[effect.name].expires_at
    assert found is not None
    assert found > spec.ends_at
    bench.server.run("ALTER DEFINER = jit_keeper@localhost EVENT jitaccess.tick DISABLE")
    assert connector.observe().accounts[effect.name].expires_at is None
    bench.server.run("ALTER DEFINER = jit_keeper@localhost EVENT jitaccess.tick ENABLE")
    end(connector, effect)


@pytest.mark.covers("R49", "R51", "R57")
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("ALTER DEFINER = jit_keeper@localhost EVENT jitaccess.tick DO SELECT 1", "does something else"),
        ("ALTER DEFINER = jit_keeper@localhost EVENT jitaccess.tick ON SCHEDULE EVERY 10 YEAR", "another schedule"),
        (
            "ALTER DEFINER = jit_keeper@localhost EVENT jitaccess.tick ON SCHEDULE EVERY 1 SECOND STARTS NOW() + INTERVAL 1 DAY",
            "another schedule",
        ),
        (
            "ALTER DEFINER = jit_keeper@localhost EVENT jitaccess.tick ON SCHEDULE EVERY 1 SECOND ENDS NOW() + INTERVAL 1 DAY",
            "another schedule",
        ),
        ("ALTER DEFINER = root@localhost EVENT jitaccess.tick COMMENT 'mine'", "runs as somebody else"),
        ("DROP EVENT jitaccess.tick", "there is no event"),
        (
            "CREATE OR REPLACE DEFINER = jit_keeper@localhost PROCEDURE jitaccess.expire() SQL SECURITY DEFINER BEGIN END",
            "not as installed",
        ),
    ],
)
def test_an_event_that_was_hollowed_ends_nobody_and_is_told(
    bench: Any, connector: Connector, change: str, why: str
) -> None:
    effect, _ = born(bench, connector)
    assert connector.observe().accounts[effect.name].expires_at is not None
    bench.server.run(change)
    assert connector.observe().accounts[effect.name].expires_at is None
    assert [line for line in connector.probe() if why in line and line.startswith("missing: event_scheduler=ON")]
    with pytest.raises(NotReady, match=f"does not end accounts: .*{why}"):
        born(bench, connector)
    bench.server.script(KIND.setup(KIND.config.model_validate(dict(bench.config()))))
    assert connector.observe().accounts[effect.name].expires_at is not None
    end(connector, effect)


@pytest.mark.covers("R49", "R57")
def test_an_event_that_the_server_does_not_run_ends_nobody(bench: Any, connector: Connector) -> None:
    effect, _ = born(bench, connector)
    bench.server.run(
        "DROP EVENT jitaccess.tick",  # what is put into the table by hand is not in the queue of the server
        "INSERT INTO mysql.event (db, name, body, definer, interval_value, interval_field, starts, last_executed, comment, originator)"
        " VALUES ('jitaccess', 'tick', 'CALL jitaccess.expire()', 'jit_keeper@localhost', 1, 'SECOND',"
        " UTC_TIMESTAMP() - INTERVAL 1 DAY, UTC_TIMESTAMP() - INTERVAL 1 MINUTE, '', 1)",
    )
    assert connector.observe().accounts[effect.name].expires_at is None
    assert any("did not run" in line for line in connector.probe())
    bench.server.script(KIND.setup(KIND.config.model_validate(dict(bench.config()))))
    await_(lambda: connector.observe().accounts[effect.name].expires_at is not None)
    end(connector, effect)


@pytest.mark.covers("R57")
def test_roles_events_and_definers_without_an_account_are_seen(bench: Any, connector: Connector) -> None:
    name = f"jit-{'0' * 26}"
    bench.server.run(f"CREATE DEFINER = `{name}`@`%` PROCEDURE app.orphan() SELECT 1")
    bench.server.run("CREATE DEFINER = app_write EVENT app.robot ON SCHEDULE EVERY 1 HOUR DO SELECT 1")
    bench.server.run("CREATE DEFINER = root@localhost EVENT app.mine ON SCHEDULE EVERY 1 HOUR DO SELECT 1")
    seen = connector.observe().accounts
    assert seen[name].owns == {"procedure app.orphan"}
    assert "runs event app.robot" in seen["role app_write"].rights
    assert "runs event app.mine" in seen["root@localhost"].rights
    assert "INSERT on app.*" in seen["role app_write"].rights
    assert any("not lent while event app.robot runs as it, since before" in line for line in connector.probe())
    assert connector.quarantine(name, remove=True).done
    assert bench.server.run("SELECT 1 FROM mysql.proc WHERE name = 'orphan'") == []
    assert bench.server.run("SELECT name FROM mysql.event WHERE db = 'app'") == [("mine",), ("robot",)]
    bench.server.run("DROP EVENT app.mine", "DROP EVENT app.robot")


@pytest.mark.covers("R57")
def test_administrators_are_never_locked_and_the_statement_is_said_where_the_owner_did_not_allow_it(
    bench: Any, connector: Connector
) -> None:
    bench.server.run("CREATE USER shadow@'%' IDENTIFIED BY 'x'", "GRANT ALL ON *.* TO shadow@'%' WITH GRANT OPTION")
    assert "SUPER on *.*" in connector.observe().accounts["shadow@%"].rights
    for kept in ("root@localhost", "mariadb.sys@localhost", "jit_keeper@localhost", "jit_broker@%", "role app_write"):
        assert not connector.quarantine(kept, remove=True).done
    assert bench.server.run("SELECT 1") == [(1,)]
    assert connector.observe().own == "jit_broker@%"
    bench.server.run("REVOKE EXECUTE ON PROCEDURE jitaccess.disable FROM jit_broker@'%'")
    told = connector.quarantine("shadow@%", remove=False)
    assert (told.done, told.statement) == (False, "ALTER USER `shadow`@`%` ACCOUNT LOCK;")
    bench.server.run("GRANT EXECUTE ON PROCEDURE jitaccess.disable TO jit_broker@'%'")
    done = connector.quarantine("shadow@%", remove=True)
    assert (done.done, done.statement) == (True, "DROP USER `shadow`@`%`;")
    assert not bench.can_log_in("shadow")
    bench.server.run("DROP USER shadow@'%'")


@pytest.mark.covers("R57")
def test_an_administrator_whose_row_was_taken_away_is_seen_and_so_is_a_session_of_nobody(
    bench: Any, connector: Connector
) -> None:
    known = connector.observe().accounts
    bench.server.run(
        "CREATE USER shadow@'%' IDENTIFIED BY 'x'",
        "GRANT ALL ON *.* TO shadow@'%' WITH GRANT OPTION",
        "DELETE FROM mysql.global_priv WHERE User = 'shadow'",
    )
    with mariadb.connect(str(bench.server.socket), user="shadow", password="x"):
        seen = connector.observe()
        shadow = seen.accounts["shadow@%"]
        assert shadow.enabled
        assert shadow.sessions == 1
        assert {"in memory only", "SUPER on *.*", "GRANT OPTION on *.*"} <= shadow.rights
        assert {one.account: one.what for one in judged(seen, known)}["shadow@%"] is What.NEW
        assert connector.undoing("shadow@%", ["SUPER on *.*"]) == "FLUSH PRIVILEGES;"
        bench.server.run("FLUSH PRIVILEGES")
        seen = connector.observe()
        assert "shadow@%" not in seen.accounts
        assert seen.accounts["shadow"] == Account("shadow", frozenset({"session without an account"}), sessions=1)
        assert {one.account: one.what for one in judged(seen, known)}["shadow"] is What.NEW
        told = connector.quarantine("shadow", remove=True)
        assert (told.done, told.statement) == (False, "KILL HARD USER `shadow`;")
        bench.server.run(told.statement)
    await_(lambda: connector.observe().accounts.keys() == known.keys())


@pytest.mark.covers("R57")
def test_rights_on_a_database_that_only_the_servers_memory_has_are_seen_and_inherited_ones_are_not(
    bench: Any, connector: Connector
) -> None:
    bench.server.run(
        "CREATE USER raised@'%'",
        "CREATE ROLE inner_role",
        "CREATE ROLE outer_role",
        "GRANT SELECT ON app.* TO inner_role",
        "GRANT inner_role TO outer_role",
        "GRANT INSERT ON app.* TO outer_role",
    )
    known = connector.observe().accounts
    assert {right for right in known["role outer_role"].rights if " on " in right} == {"INSERT on app.*"}
    bench.server.run(
        "GRANT DELETE, CREATE TEMPORARY TABLES ON app.* TO raised@'%' WITH GRANT OPTION",
        "GRANT UPDATE ON app.* TO outer_role",
        "DELETE FROM mysql.db WHERE User = 'raised'",
        "UPDATE mysql.db SET Update_priv = 'N' WHERE User = 'outer_role'",
    )
    seen = connector.observe().accounts
    words = {"DELETE on app.*", "CREATE TMP TABLE on app.*", "GRANT on app.*"}
    assert seen["raised@%"].rights - known["raised@%"].rights == words
    assert seen["role outer_role"].rights - known["role outer_role"].rights == {"UPDATE on app.*"}
    assert connector.undoing("raised@%", ["DELETE on app.*"]) == "FLUSH PRIVILEGES;"
    bench.server.run("FLUSH PRIVILEGES")
    assert connector.observe().accounts == known
    bench.server.run("INSERT INTO mysql.db (Host, Db, User, Drop_priv) VALUES ('%', 'app', 'raised', 'Y')")
    assert "DROP on app.*" in connector.observe().accounts["raised@%"].rights, "the next start makes it work"
    bench.server.run("FLUSH PRIVILEGES", "DROP USER raised@'%'", "DROP ROLE outer_role", "DROP ROLE inner_role")


@pytest.mark.covers("R49", "R57")
def test_an_account_whose_row_was_taken_away_is_not_said_to_be_ended(bench: Any, connector: Connector) -> None:
    effect, _ = born(bench, connector)
    bench.server.run(f"DELETE FROM mysql.global_priv WHERE User = '{effect.name}'")
    assert "in memory only" in connector.observe().accounts[effect.name].rights
    with pytest.raises(pymysql.Error, match="can still log in"):
        connector.cut([effect])
    with pytest.raises(pymysql.Error, match="still there"):
        connector.clean([effect])
    bench.server.run(f"DELETE FROM mysql.roles_mapping WHERE User = '{effect.name}'", "FLUSH PRIVILEGES")
    bench.server.run("CREATE USER raised@'%'", "GRANT FILE ON *.* TO raised@'%'")
    bench.server.run("UPDATE mysql.global_priv SET Priv = JSON_SET(Priv, '$.access', 0) WHERE User = 'raised'")
    assert "FILE on *.*" in connector.observe().accounts["raised@%"].rights
    bench.server.run("DROP USER raised@'%'")
    end(connector, effect)


@pytest.mark.covers("R57")
def test_a_role_with_all_rights_that_nobody_is_yet_is_found_and_what_setup_made_is_not(
    bench: Any, connector: Connector
) -> None:
    first = judged(connector.observe(), {}, first=True)
    assert {one.account for one in first}.isdisjoint(
        {"jit_keeper@localhost", "mariadb.sys@localhost", "role app_write"}
    )
    known = connector.observe().accounts
    bench.server.run("CREATE ROLE shadow", "GRANT ALL ON *.* TO shadow WITH GRANT OPTION", "CREATE ROLE harmless")
    found = {one.account: one for one in judged(connector.observe(), known)}
    assert found["role shadow"].what is found["role harmless"].what is What.NEW
    assert {"NOLOGIN", "GRANT OPTION on *.*"} <= {*found["role shadow"].extra}
    assert "jit_keeper@localhost" not in found
    assert {one.account for one in judged(connector.observe(), {}, first=True)} >= {"role shadow"}
    bench.server.run("DROP ROLE shadow", "DROP ROLE harmless")


@pytest.mark.covers("R57")
def test_the_owner_is_told_how_to_take_back_each_right_of_a_role_that_gives_more(
    bench: Any, connector: Connector
) -> None:
    assert isinstance(connector, MariadbConnector)
    known = connector.observe().accounts
    bench.server.run(
        "CREATE DATABASE `odd``db`",
        "CREATE TABLE `odd``db`.`t'x` (id INT)",
        "CREATE PROCEDURE `odd``db`.p() SELECT 1",
        "CREATE ROLE more",
    )
    for statement in (
        "GRANT RELOAD, SUPER ON *.* TO app_write WITH GRANT OPTION",
        "GRANT CREATE TEMPORARY TABLES, LOCK TABLES, DELETE HISTORY ON `odd``db`.* TO app_write WITH GRANT OPTION",
        "GRANT SELECT, DELETE HISTORY, SHOW VIEW ON `odd``db`.`t'x` TO app_write WITH GRANT OPTION",
        "GRANT EXECUTE ON PROCEDURE `odd``db`.p TO app_write WITH GRANT OPTION",
        "GRANT more TO app_write WITH ADMIN OPTION",
        "CREATE DEFINER = app_write EVENT `odd``db`.late ON SCHEDULE EVERY 1 HOUR DO SELECT 1",
    ):
        bench.server.run(statement)
    (found,) = [one for one in judged(connector.observe(), known) if one.account == "role app_write"]
    assert found.what is What.RAISED
    told = connector.undoing("role app_write", found.extra).splitlines()
    assert len(told) == len(found.extra) > 12
    bench.server.run(*(line for line in told if not line.startswith("--")))
    assert connector.observe().accounts["role app_write"].rights == known["role app_write"].rights
    assert connector.undoing("role app_write", ["member of\nnobody"]) == "-- look at: member of nobody"
    bench.server.run("DROP DATABASE `odd``db`", "DROP ROLE more")


def judged(seen: Inventory, known: Mapping[str, Account], *, first: bool = False) -> Sequence[Finding]:
    """Return what is wrong, where accounts were known before as they were."""
    remembered = {name: Remembered(one.rights, one.fingerprint, gone=False) for name, one in known.items()}
    return compare(seen, explained={}, ending=frozenset(), excepted={}, known=remembered, enforced=True, first=first)


# ---------------------------------------------------------------- the broker's own account


@pytest.mark.covers("R54")
def test_the_brokers_account_can_do_nothing_but_call_its_procedures(bench: Any) -> None:
    connector: Any = open_connector(bench)
    with connector._lines.line() as connection, connection.cursor() as cursor:
        for statement in (
            "SELECT * FROM mysql.global_priv",
            "SELECT * FROM jitaccess.leftover",
            "UPDATE jitaccess.lease SET ends_at = NULL",
            "CREATE USER mine IDENTIFIED BY 'x'",
            "ALTER USER root@localhost IDENTIFIED BY 'x'",
            "GRANT app_write TO jit_broker@'%'",
            "CALL jitaccess.run('SELECT 1')",
            "CALL jitaccess.forget('root', '', @gone)",
            "CALL jitaccess.cut('root')",
            "CALL jitaccess.disable('root', 'localhost')",
            "CALL jitaccess.disable('jit_keeper', 'localhost')",
        ):
            with pytest.raises(pymysql.Error):
                cursor.execute(statement)
        for role in ("nobody", "app_write`, `root"):
            values = (f"jit-{'1' * 26}", "%", role, verifier("x"), "2999-01-01", "2999-01-01", 1, 1, 0, 0)
            with pytest.raises(pymysql.Error, match="may be lent"):
                cursor.execute(f"CALL jitaccess.make({', '.join(['%s'] * 10)})", values)
    connector.close()


@pytest.mark.covers("R54")
def test_somebody_who_may_execute_everything_may_not_call_them(bench: Any) -> None:
    bench.server.run("CREATE USER other@'%' IDENTIFIED BY 'x'", "GRANT EXECUTE ON *.* TO other@'%'")
    with (
        mariadb.connect(str(bench.server.socket), user="other", password="x") as connection,
        connection.cursor() as cursor,
    ):
        for call in (
            "cut('jit-00000000000000000000000000')",
            "run('CREATE USER mine')",
            "hunt_all('root', '', FALSE)",
            "forget('root', '', @gone)",
            "look()",
            "disable('root', 'localhost')",
        ):
            with pytest.raises(pymysql.Error, match="only the broker"):
                cursor.execute(f"CALL jitaccess.{call}")
        cursor.execute("CALL jitaccess.expire()")  # does what is due and nothing else
    bench.server.run("DROP USER other@'%'")


@pytest.mark.covers("R54")
def test_a_broker_or_a_role_that_is_too_mighty_says_so(bench: Any, connector: Connector) -> None:
    bench.server.run(
        "CREATE USER ''@'10.0.0.1'",
        "GRANT SELECT ON app.* TO jit_broker@'%'",
        "CREATE ROLE inner_role",
        "GRANT inner_role TO app_write",
        "GRANT SUPER ON *.* TO inner_role",
        "GRANT SELECT ON mysql.* TO app_write",
        "GRANT SELECT ON `app_prod`.* TO app_write",
        "ALTER USER jit_keeper@localhost ACCOUNT UNLOCK",
    )
    found = connector.probe()
    bench.server.run(
        "DROP USER ''@'10.0.0.1'",
        "REVOKE SELECT ON app.* FROM jit_broker@'%'",
        "DROP ROLE inner_role",
        "REVOKE SELECT ON mysql.* FROM app_write",
        "REVOKE SELECT ON `app_prod`.* FROM app_write",
        "ALTER USER jit_keeper@localhost ACCOUNT LOCK",
    )
    for wanted in (
        "too mighty: ''@10.0.0.1 lets anybody in",
        "too mighty: jit_broker@% has SELECT on app.*",
        "too mighty: app_write is not lent, since it has a right that outlives a lease or beats its end: SUPER on *.* through inner_role",
        "too mighty: a lease of app_write reaches the server's own tables: SELECT on mysql.*",
        "note: in SELECT on app_prod.* of app_write the _ stands for any character",
        "too mighty: jit_keeper@localhost must be there and locked",
    ):
        assert any(line.startswith(wanted) for line in found), wanted
    missing = open_connector(bench, {**bench.config(), "entitlements": {"writer": {"role": "no_such"}}})
    assert {"missing: there is no role no_such", "missing: the broker may not lend the role no_such"} <= {
        *missing.probe()
    }
    missing.close()


# ---------------------------------------------------------------- the way there


@pytest.mark.covers("R48", "R55")
def test_the_server_sees_a_verifier_and_never_the_password(bench: Any, connector: Connector) -> None:
    bench.server.run("TRUNCATE mysql.general_log", "SET GLOBAL log_output = 'TABLE'", "SET GLOBAL general_log = ON")
    effect, credential = born(bench, connector)
    bench.server.run("SET GLOBAL general_log = OFF")
    assert credential.secret is not None
    rows = bench.server.run("SELECT argument FROM mysql.general_log")
    assert not any(credential.secret.reveal().encode() in bytes(str(row), "utf-8") for row in rows)
    query = f"SELECT JSON_VALUE(Priv, '$.authentication_string') FROM mysql.global_priv WHERE User = '{effect.name}'"
    assert bench.server.run(query) == [(verifier(credential.secret.reveal()),)]
    assert len(effect.name) <= 32, "also what MySQL's oldest limit would keep whole"
    end(connector, effect)


@pytest.mark.covers("R47", "R57")
def test_a_server_whose_clock_differs_makes_nothing_and_is_found(bench: Any) -> None:
    before = bench.accounts()
    for off, way in ((timedelta(minutes=1), "behind"), (timedelta(minutes=-1), "ahead of")):

        def later(off: timedelta = off) -> datetime:
            return datetime.now(UTC) + off

        around = Surroundings(lambda name: (bench.secret(),), new_secret, later)
        connector = bench.kind.open(bench.kind.config.model_validate(dict(bench.config())), around)
        with pytest.raises(NotDone, match="clocks"):
            connector.apply(connector.plan(spec_of(bench)), soon())
        word = f"clock: the server is more than 5 s {way} the broker"
        assert word in connector.probe()
        (found,) = [one for one in connector.observe().accounts.values() if word in one.rights]
        assert not connector.quarantine(found.name, remove=True).done
        connector.close()
    assert bench.accounts() == before


@pytest.mark.covers("R48", "R50")
def test_the_command_that_is_shown_works_in_the_real_client_until_the_end(
    bench: Any, connector: Connector, tmp_path: Path
) -> None:
    effect, credential = born(bench, connector)
    for name, text in credential.files.items():
        (tmp_path / name).write_text(text.reveal())
    assert credential.secret is not None

    def ask(*more: str) -> "subprocess.CompletedProcess[str]":
        assert credential.secret is not None
        program, *words = [word for word in shlex.split(credential.command) if word != "--password"]
        environment = {"PATH": os.environ["PATH"], "MYSQL_PWD": credential.secret.reveal()}
        command = [str(mariadb.program(program)), *words, *more, "-N", "-e", "SELECT CURRENT_ROLE(), @@ssl_cipher"]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
        )

    came_in = ask()
    assert came_in.returncode == 0, came_in.stderr
    assert came_in.stdout.split()[0] == "app_write"
    if bench.tls:
        assert len(came_in.stdout.split()) == 2, "there is a cipher"
        assert ask("--skip-ssl").returncode != 0, "the account insists on TLS"
    connector.cut([effect])
    assert "Access denied" in ask().stderr
    connector.clean([effect])
    assert "Access denied" in ask().stderr


@pytest.mark.covers("R58")
def test_a_server_that_shows_a_certificate_of_somebody_else_or_none_is_not_spoken_to(bench: Any) -> None:
    config = dict(bench.config())
    if bench.tls:
        for change in ({"root_ca": ""}, {"host": "localhost"}):
            with pytest.raises(Unreachable):
                open_connector(bench, config | change).observe()
        return
    with pytest.raises(ValueError, match="loopback"):
        KIND.config.model_validate(config | {"host": "db.example"})
    bench.server.run("SET GLOBAL log_output = 'TABLE'", "TRUNCATE mysql.general_log", "SET GLOBAL general_log = ON")
    with pytest.raises(Unreachable):
        open_connector(bench, config | {"host": "127.0.0.1", "port": bench.server.port, "tls": "verify-full"}).observe()
    bench.server.run("SET GLOBAL general_log = OFF")
    seen = bench.server.run("SELECT argument FROM mysql.general_log WHERE argument LIKE '%jit_broker%'")
    assert seen == [], "a server without TLS does not even learn the broker's name"


def test_a_wrong_secret_is_unreachable_and_not_repeated_to_anybody(bench: Bench) -> None:
    with pytest.raises(Unreachable) as raised:
        open_connector(bench, None, Secret("wrong-secret-of-the-broker")).observe()
    assert "wrong-secret" not in repr(raised.value)


@pytest.mark.covers("R47")
def test_what_waits_on_the_server_past_its_deadline_is_undone(bench: Any, connector: Connector) -> None:
    before, effect = bench.accounts(), connector.plan(spec_of(bench))
    failed = threading.Event()
    with bench.server.owner() as owner, owner.cursor() as cursor:
        cursor.execute("FLUSH TABLES WITH READ LOCK")

        def late() -> None:
            try:
                connector.apply(effect, soon(1.0))
            except NotDone:
                failed.set()

        thread = threading.Thread(target=late)
        thread.start()
        time.sleep(1.5)
        cursor.execute("UNLOCK TABLES")
        thread.join()
    assert failed.is_set()
    assert bench.accounts() == before


@pytest.mark.covers("R47")
def test_what_is_being_made_while_it_is_cut_undoes_itself(bench: Any, connector: Connector) -> None:
    for pause_s in (0.0, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004):
        effect = connector.plan(spec_of(bench))

        def make(it: Effect = effect) -> None:
            with suppress(NotDone):
                connector.apply(it, soon())

        thread = threading.Thread(target=make)
        thread.start()
        time.sleep(pause_s)
        connector.bury(effect)
        connector.cut([effect])
        thread.join()
        assert not bench.can_log_in(effect.name)
        connector.cut([effect])
        connector.clean([effect])


def test_setup_quotes_every_name_that_it_is_given() -> None:
    text = setup(EXAMPLE.model_copy(update={"user": "a`b'c\\", "user_host": "10.%"}))
    assert "CREATE USER IF NOT EXISTS `a``b'c\\`@`10.%`" in text
    assert "BINARY 'a`b\\'c\\\\'" in text
    assert "<<" not in text
    assert isinstance(KIND.open(EXAMPLE, None), MariadbConnector)  # type: ignore[arg-type] # nothing is called
