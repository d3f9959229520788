"""What of SSH can be decided without a host: which keys are taken, what a policy may say, which processes belong together."""

import base64
import importlib.util
import json
import os
import pwd
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_public_identity,
)
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from jitaccess.connectors.contract import Posted, Secret, Unreachable, Unusable
from jitaccess.connectors.ssh_ca import KIND, certificate, connector, krl
from jitaccess.connectors.ssh_ca.authority import (
    ENTRY,
    Authority,
    authority_on,
    exchanged,
    key_of,
    public_line,
    without_expired,
)
from jitaccess.connectors.ssh_ca.config import SshCaConfig
from jitaccess.connectors.ssh_ca.connector import serial_of
from jitaccess.connectors.ssh_ca.reports import Said
from jitaccess.connectors.ssh_ca.wire import blob_of, blob_of_line, fingerprint, line_of, sign, string, verify
from jitaccess.store.ids import new_id, new_secret
from tests.support.sources import ROOT

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def openssh(key: Any) -> str:
    line: bytes = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return line.decode()


ED25519 = openssh(Ed25519PrivateKey.generate())
RSA = openssh(rsa.generate_private_key(65537, 3072))
P384 = openssh(ec.generate_private_key(ec.SECP384R1()))
SK = line_of(string(b"sk-ssh-ed25519@openssh.com") + string(bytes(range(32))) + string(b"ssh:"))
POINT = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
SK_P256 = line_of(
    string(b"sk-ecdsa-sha2-nistp256@openssh.com") + string(b"nistp256") + string(POINT) + string(b"ssh:x")
)


def named(value: object) -> str:
    """Name a case by its beginning: keys differ from run to run, and every process of a run must name it alike."""
    return ascii(value)[:30]


@pytest.mark.covers("R53")
@pytest.mark.parametrize("line", [ED25519, RSA, P384, SK, SK_P256], ids=lambda line: line.split()[0])
def test_good_keys_are_taken_without_their_comment(line: str) -> None:
    assert certificate.public_key(f"  {line} arta@laptop, the \u0161ef's  \n") == line


def certified(line: str) -> str:
    content = certificate.Content(1, "k", "p", NOW, NOW + timedelta(hours=1), {}, ())
    return certificate.sign(Ed25519PrivateKey.generate(), line, content, bytes(32))


PRIVATE = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
BLOB = blob_of_line(ED25519)


@pytest.mark.covers("R53")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PRIVATE, "private key"),
        ("", "one line"),
        ("ssh-ed25519", "one line"),
        (f"{ED25519}\n{ED25519}", "one line"),
        (f"{ED25519} \x1b[2J", "one line"),
        ("x" * 5000, "one line"),
        (certified(ED25519), "certificate"),
        (certified(SK), "certificate"),
        (line_of(string(b"ssh-dss") + string(b"p") * 4), "not accepted"),
        (f'command="id" {ED25519}', "not accepted"),
        ("ssh-foo AAAA", "not accepted"),
        (openssh(rsa.generate_private_key(65537, 2048)), "too weak"),
        (openssh(rsa.generate_private_key(3, 3072)), "too weak"),
        (ED25519[:-10], "damaged"),
        (ED25519.replace("ssh-ed25519", "ssh-rsa"), "damaged"),
        (line_of(BLOB + b"more"), "damaged"),
        ("ssh-ed25519 AAAA", "damaged"),
        ("ssh-ed25519 ....", "damaged"),
        (line_of(string(b"sk-ssh-ed25519@openssh.com") + string(bytes(32)) + string(b"https://bank")), "damaged"),
        (line_of(string(b"sk-ssh-ed25519@openssh.com") + string(bytes(32))), "damaged"),
    ],
    ids=named,
)
def test_what_is_no_good_is_refused_with_a_sentence(text: str, said: str) -> None:
    with pytest.raises(Unusable, match=said):
        certificate.public_key(text)


@given(st.text(max_size=300))
def test_any_text_is_taken_or_refused_with_a_sentence(text: str) -> None:
    for tried in (
        text,
        f"ssh-ed25519 {text}",
        f"ssh-ed25519 {base64.b64encode(string(b'ssh-ed25519') + text.encode()).decode()}",
    ):
        with pytest.raises(Unusable):
            certificate.public_key(tried)


@pytest.mark.covers("R53", "TRAP-15")
@pytest.mark.parametrize("line", [ED25519, RSA, P384], ids=lambda line: line.split()[0])
def test_both_ways_of_writing_a_certificate_give_the_same(line: str) -> None:
    key = Ed25519PrivateKey.generate()
    options = {"force-command": "echo hi", "source-address": "10.0.0.0/8"}
    content = certificate.Content(
        7, "jit-x", "ops", NOW, NOW + timedelta(hours=1), options, ("permit-pty", "permit-user-rc")
    )
    made = load_ssh_public_identity(certificate.sign(key, line, content, bytes(32)).encode())
    kind = f"{line.split()[0]}-cert-v01@openssh.com".encode()
    own = certificate._certificate(key, kind, blob_of_line(line), content, bytes(32))
    read = load_ssh_public_identity(line_of(own).encode())
    for name in (
        "serial",
        "key_id",
        "valid_principals",
        "valid_after",
        "valid_before",
        "critical_options",
        "extensions",
        "type",
    ):
        assert getattr(made, name) == getattr(read, name), name
    read.verify_cert_signature()
    assert read.public_key() == made.public_key()


HOST = {"name": "db1", "key": ED25519}
MEANING: dict[str, object] = {"principal": "ops", "account": "ops"}


def config(**changes: object) -> dict[str, object]:
    return {"kind": "ssh_ca", "secret": "a", "hosts": [HOST], "entitlements": {"e": MEANING}, **changes}


@pytest.mark.covers("R53")
@pytest.mark.parametrize(
    "changes",
    [
        *({"entitlements": {"e": {**MEANING, "principal": bad}}} for bad in ("", "a,b", "*", "a b", "a/b", "a\n", "-x", "a*", "ops,root")),
        *({"entitlements": {"e": {**MEANING, "account": bad}}} for bad in ("", "-oProxyCommand=x", "a b", "$(id)", "Root;")),
        {"entitlements": {"e": {**MEANING, "extensions": ["permit-everything"]}}},
        {"entitlements": {"e": {**MEANING, "force_command": "a\nb"}}},
        {"entitlements": {"e": {**MEANING, "source_address": ["10.0.0.1/8"]}}},
        {"entitlements": {"e": {**MEANING, "source_address": ["!10.0.0.0/8,*"]}}},
        {"entitlements": {"e": {**MEANING, "verify_required": True}}},
        {"entitlements": {"e": {**MEANING, "hosts": ["db2"]}}},
        {"hosts": []},
        {"hosts": [HOST, HOST]},
        {"hosts": [{**HOST, "name": "-oProxyCommand=x"}]},
        {"hosts": [{**HOST, "name": "db1\ndb2 ssh-rsa"}]},
        {"hosts": [{**HOST, "key": RSA}]},
        {"hosts": [{**HOST, "key": certified(ED25519)}]},
        {"hosts": [{**HOST, "key": f"@cert-authority * {ED25519}"}]},
        {"host_ca": [certified(ED25519)]},
        {"confirm": "never"},
        {"password": "x"},
    ],
    ids=named,
)  # fmt: skip
def test_a_policy_that_would_widen_a_certificate_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SshCaConfig.model_validate(config(**changes))


def test_a_host_key_is_kept_without_its_comment() -> None:
    found = SshCaConfig.model_validate(config(hosts=[{**HOST, "key": f"{ED25519} root@db1"}]))
    assert found.hosts[0].key == ED25519


@pytest.mark.covers("R48", "R53")
def test_serials_of_leases_differ_and_fit() -> None:
    found = {serial_of(f"jit-{new_id(NOW)}") for _ in range(2000)}
    assert len(found) == 2000
    assert all(0 < serial < 2**63 for serial in found)


def test_setup_prints_every_host_and_what_sshd_needs() -> None:
    other = {**MEANING, "principal": "dba", "hosts": ["db2"]}
    hosts = [HOST, {"name": "db2", "key": P384.replace(P384, ED25519)}]
    text = KIND.setup(SshCaConfig.model_validate(config(hosts=hosts, entitlements={"e": MEANING, "f": other})))
    assert '  db1) PRINCIPALS=\'{"ops": ["ops"]}\' ;;' in text
    assert '  db2) PRINCIPALS=\'{"ops": ["dba", "ops"]}\' ;;' in text
    for line in ("TrustedUserCAKeys ", "RevokedKeys ", "AuthorizedPrincipalsCommand ", "AuthorizedPrincipalsFile none"):
        assert line in text
    assert "db1.example" in KIND.setup(None)


@pytest.mark.covers("R35")
def test_an_authority_comes_from_a_secret_or_from_an_openssh_key() -> None:
    secret = Secret(new_secret())
    assert public_line(key_of(secret)) == public_line(key_of(Secret(f"{secret.reveal()}\n")))
    assert public_line(key_of(secret)) != public_line(key_of(Secret(new_secret())))
    assert public_line(key_of(Secret(PRIVATE))).startswith("ssh-ed25519 ")
    other = (
        rsa.generate_private_key(65537, 2048)
        .private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        .decode()
    )
    for bad in ("", "short", "x" * 42, PRIVATE[:100], other, f"{new_secret()} {new_secret()}"):
        with pytest.raises(Unreachable) as raised:
            key_of(Secret(bad))
        assert not bad or bad not in str(raised.value)


@pytest.mark.covers("R35", "R52")
def test_an_old_authority_is_trusted_until_what_it_signed_has_ended() -> None:
    keys = [Ed25519PrivateKey.generate() for _ in range(2)]
    old, new = map(public_line, keys)
    before = Authority(old, new)
    assert before.trusted(0) == [old, new]
    after = exchanged(before, new, last_end_s=100)
    assert after.trusted(99) == [new, old]
    assert after.trusted(100) == [new]
    assert without_expired(after, 99) is None
    left = without_expired(after, 100)
    assert left is not None
    assert left.retiring == {}
    posted = Posted(NOW, 1, {ENTRY: after.to_json()}, frozenset(), {})
    assert authority_on(posted, keys) == after
    assert authority_on(Posted(NOW, 1, {}, frozenset({ENTRY}), {}), keys).current == old
    assert exchanged(after, old, last_end_s=200).trusted(150) == [old, new], "and back again"


def test_signatures_of_files_are_bound_to_key_namespace_and_text() -> None:
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    blob, foreign = blob_of(key.public_key()), blob_of(other.public_key())
    armour = sign(key, "a", b"text")
    assert verify(armour, "a", b"text", {blob, foreign}) == blob
    assert verify(armour, "b", b"text", {blob}) is None
    assert verify(armour, "a", b"Text", {blob}) is None
    assert verify(armour, "a", b"text", {foreign}) is None
    assert verify(armour, "a", b"text", set()) is None
    lines = armour.splitlines()
    for spoiled in ("", "\n".join(lines[1:]), armour + "x" * 3000, armour.replace(lines[1], lines[1][:-4]), "-" * 90):
        assert verify(spoiled, "a", b"text", {blob}) is None


def test_a_list_of_revocations_begins_as_openssh_reads_it_and_takes_only_serials_and_fingerprints() -> None:
    found = krl.write(number=9, at=NOW, serials=[3, 2, 2], fingerprints=[fingerprint(BLOB)])
    assert struct.unpack(">QIQQ", found[:28]) == (0x5353484B524C0A00, 1, 9, int(NOW.timestamp()))
    assert struct.pack(">QQ", 2, 3) in found
    for serials, fingerprints in (([0], []), ([2**64], []), ([-1], []), ([], ["SHA256:AAAA"]), ([], ["x"])):
        with pytest.raises(ValueError, match=r"serial|fingerprint|base64|padding|characters"):
            krl.write(number=1, at=NOW, serials=serials, fingerprints=fingerprints)


@pytest.mark.parametrize(
    ("account", "said"),
    [
        ("db1: silent", "start jit-ssh-host"),
        ("db1: clock off", "set the clock"),
        ("db1: authority SHA256:x", "TrustedUserCAKeys"),
        ("db1: ops takes root-all", "principal"),
        ("board: jit-x", "database"),
        ("db1: passwordauthentication yes", "targets setup ssh_ca"),
    ],
)
def test_an_owner_is_told_what_to_do(account: str, said: str) -> None:
    assert said in connector._what_to_do(account)


def test_what_setup_prints_is_a_shell_script() -> None:
    subprocess.run(["sh", "-n"], input=KIND.setup(None), text=True, check=True)


def helper() -> ModuleType:
    spec = importlib.util.spec_from_file_location("jit_ssh_host", ROOT / "examples" / "ssh" / "jit_ssh_host.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HELPER = helper()


@pytest.mark.covers("R50")
def test_a_session_is_its_sshd_all_below_and_all_in_the_same_login_session() -> None:
    parents = {10: 1, 11: 10, 12: 11, 13: 12, 20: 1, 21: 20, 30: 1, 31: 1}
    scopes = {
        12: "session-5.scope",
        13: "session-5.scope",
        30: "session-5.scope",
        31: "session-6.scope",
        21: "session-6.scope",
    }
    assert HELPER.family(10, parents, scopes) == {10, 11, 12, 13, 30}, "30 left its parent, and not its session"
    assert HELPER.family(20, parents, scopes) == {20, 21, 31}
    assert HELPER.family(10, {}, {}) == {10}


KEY_LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43


@pytest.mark.covers("R57")
@pytest.mark.parametrize(
    ("text", "keys", "unread"),
    [
        (f"# a comment\n{KEY_LINE}\n", 1, False),
        (f"# {KEY_LINE}\n", 0, False),
        ("# pad\n" * 200_000 + KEY_LINE, 1, False),
        (" " * 20_000 + KEY_LINE, 1, False),
        (f'environment="A={"x" * 20_000}" {KEY_LINE}', 0, True),
        ("# pad\n" * 900_000 + KEY_LINE, 0, True),
        ("# \u00e9\u00e9\u00e9\u00e9\n" * 500_000 + KEY_LINE, 0, True),
        (f'environment="A=x\x0c# " {KEY_LINE}', 1, False),
        (f'environment="A=x\u2028# " {KEY_LINE}', 1, False),
    ],
)
def test_no_padding_hides_an_authorized_key_unsaid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, keys: int, unread: bool
) -> None:
    (tmp_path / "authorized_keys").write_text(text)
    account = pwd.struct_passwd(("mallory", "x", 4711, 4711, "", str(tmp_path), "/bin/sh"))
    monkeypatch.setattr(HELPER.pwd, "getpwall", lambda: [])
    monkeypatch.setattr(HELPER.pwd, "getpwnam", {"mallory": account}.__getitem__)
    found, said = HELPER.keys_of_accounts({"authorized_keys"}, ["mallory", "nobody-there"])
    assert (len(found), bool(said)) == (keys, unread)


def test_what_sshd_says_of_itself_is_compared_with_what_was_set_up() -> None:
    settings = {**HELPER.DEFAULTS, "config": HELPER.CONFIG}
    command = f"{ROOT}/examples/ssh/jit_ssh_host.py principals %u %s %i %k"
    good = {
        "trustedusercakeys": "/etc/ssh/jitaccess/ca.pub",
        "revokedkeys": "/etc/ssh/jitaccess/krl",
        "authorizedprincipalscommand": command,
        "authorizedprincipalscommanduser": "jitaccess-sshd",
        "passwordauthentication": "no",
    }
    assert HELPER.deviations(settings, good) == set()
    assert HELPER.deviations(settings, {**good, "passwordauthentication": "yes"}) == {"passwordauthentication yes"}
    without = {name: value for name, value in good.items() if name != "revokedkeys"}
    assert HELPER.deviations(settings, without) == {"revokedkeys none"}


def test_a_process_that_is_not_there_was_never_started() -> None:
    assert HELPER.started(os.getpid()).isdigit()
    assert HELPER.started(2**22 + 1) == ""


def host_in(folder: Path, **more: object) -> Any:
    """Return the helper of a host whose files are in a folder."""
    for name in ("state", "logins"):
        (folder / name).mkdir()
    places = {"state": str(folder / "state"), "logins": str(folder / "logins"), "config": "c"}
    given = {"broker": "https://x", "target": "t", "host": "h", "principals": {"ops": ["p"]}}
    return HELPER.Host({**HELPER.DEFAULTS, **given, **places, **more})


@contextmanager
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    """Give a process that stands for the sshd of a session."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def recorded(host: Any, process: "subprocess.Popen[bytes]", serial: int, text: str | None = None) -> Path:
    """Write the record of a login, as sshd's question does; return its file."""
    record = {"account": "ops", "serial": str(serial), "key_id": f"k{serial}", "ends": int(time.time()) + 600}
    file: Path = host.logins_folder / f"{process.pid}-{HELPER.started(process.pid)}-{serial}"
    file.write_text(json.dumps(record) if text is None else text)
    return file


def fetched(host: Any, *serials: int, ago: float = 0, **more: object) -> None:
    """Write what a host fetched so many seconds ago."""
    live = {
        str(serial): {
            "key_id": f"k{serial}",
            "key": HELPER.fingerprint("AAAA"),
            "account": "ops",
            "principal": "p",
            "ends": int(time.time()) + 600,
        }
        for serial in serials
    }
    up = {"fetched_up": HELPER.up_s() - ago, "boot": HELPER.boot()}
    state = {"number": 7, "at_us": 1, "fetched_at": int(time.time() - ago), "live": live}
    host.state_file.write_text(json.dumps(state | up | more))


@pytest.mark.covers("R50")
@pytest.mark.parametrize("name", ["core", "a-b-c", "1-2", "-1-2-3", "99-12-13.tmp", "x" * 200, "0-0-0"])
def test_a_stray_file_among_the_logins_stops_no_revocation_and_is_reported(tmp_path: Path, name: str) -> None:
    host = host_in(tmp_path)
    fetched(host, 1)
    (host.logins_folder / name).write_text("x")
    (host.logins_folder / f"{name}.folder").mkdir()
    with sleeper() as stays, sleeper() as ends:
        recorded(host, stays, 1)
        file = recorded(host, ends, 2)
        assert [one["serial"] for one in host.settle()] == ["1"]
        assert ends.wait(10) != 0
        assert stays.poll() is None
        assert not file.exists()
    assert host.obeyed == 7
    said = json.loads(host.report(host.state(), "n" * 20, []))
    assert {f"no record of a login: {name}", f"no record of a login: {name}.folder"} <= {*said["wrong"]}


@pytest.mark.covers("R50")
@pytest.mark.parametrize(
    "text", ["", "{", "null", "{}", '{"account": "ops", "serial": "x", "key_id": "k", "ends": 1}', "\x00" * 40]
)
def test_a_session_whose_record_cannot_be_read_is_ended(tmp_path: Path, text: str) -> None:
    host = host_in(tmp_path)
    fetched(host, 1, 2)
    with sleeper() as stays, sleeper() as unknown:
        recorded(host, stays, 1)
        file = recorded(host, unknown, 2, text)
        assert [one["serial"] for one in host.settle()] == ["1"]
        assert unknown.wait(10) != 0
        assert stays.poll() is None
        assert not file.exists()
        assert host.obeyed == 7


@pytest.mark.covers("R50")
@pytest.mark.parametrize("text", ["", "null", "{", '{"number": "x"}'])
def test_a_host_whose_state_is_damaged_ends_sessions_and_fetches_anew(tmp_path: Path, text: str) -> None:
    host = host_in(tmp_path)
    host.state_file.write_text(text)
    with sleeper() as process:
        recorded(host, process, 1)
        assert host.settle() == []
        assert process.wait(10) != 0
    assert host.state()["number"] == 0


@pytest.mark.covers("R49", "R53")
@pytest.mark.parametrize(
    ("ago", "more", "stale"),
    [
        (0, {}, False),
        (299, {}, False),
        (301, {}, True),
        (-7200, {"fetched_up": 0.0}, True),
        (-7200, {"boot": "another"}, True),
        (120, {"fetched_up": -1e6}, True),
        (120, {"boot": "another", "fetched_up": -1e6}, False),
    ],
    ids=["now", "young", "old", "from the future", "from the future of another start", "clock set back", "restarted"],
)
def test_old_news_stay_old_when_the_clock_goes_back(
    tmp_path: Path, ago: float, more: dict[str, object], stale: bool
) -> None:
    host = host_in(tmp_path)
    fetched(host, 5, ago=ago, **more)
    assert host.principals("ops", "5", "k5", "AAAA") == ("" if stale else "p")


@pytest.mark.covers("R50")
def test_what_does_not_end_under_an_account_is_said_and_no_end_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    host = host_in(tmp_path, sole=["nobody"])
    fetched(host)
    here = os.stat(f"/proc/{os.getpid()}").st_uid
    monkeypatch.setattr(HELPER.pwd, "getpwnam", lambda name: SimpleNamespace(pw_uid=here or 4_000_000_000))
    monkeypatch.setattr(HELPER.os, "geteuid", lambda: 1)
    monkeypatch.setattr(HELPER, "send", lambda pid, number: None)
    monkeypatch.setattr(HELPER.Path, "stat", lambda path, **more: SimpleNamespace(st_uid=here or 4_000_000_000))
    monkeypatch.setattr(HELPER, "ROUNDS", 3)
    assert host.settle() == []
    assert host.obeyed == 0
    assert "processes of nobody do not end" in capsys.readouterr().err


@pytest.mark.parametrize(
    "found",
    [
        {"broker": "http://broker.example", "target": "t", "host": "h", "principals": {"a": ["b"]}},
        {
            "broker": "https://broker.example",
            "target": "t",
            "host": "h",
            "principals": {"a": ["b"]},
            "when_stale": "open",
        },
        {"broker": "https://broker.example", "target": "t", "host": "h", "principals": {}},
        {"broker": "https://broker.example", "target": "t", "host": "h", "principals": {"a": ["b"]}, "more": 1},
    ],
)
def test_a_host_refuses_a_configuration_that_would_be_unsafe(tmp_path: Any, found: dict[str, object]) -> None:
    file = tmp_path / "host.json"
    file.write_text(HELPER.json.dumps(found))
    with pytest.raises(SystemExit):
        HELPER.load(str(file))


@pytest.mark.covers("R50", "R51")
@pytest.mark.parametrize(
    ("more", "reach"),
    [
        ({}, "login"),
        ({"logind": True}, "logind"),
        ({"logind": True, "sole": ["ops"]}, "account"),
        ({"sole": ["other"]}, "login"),
        ({"sole": ["ops"], "others": True}, "login"),
    ],
)
def test_what_is_known_to_be_over_is_never_more_than_the_host_says(more: dict[str, Any], reach: str) -> None:
    other = {"account": "ops", "serial": "7", "key_id": f"jit-{'1' * 26}", "ends": 1, "count": 1}
    said: dict[str, Any] = {
        "v": 1,
        "target": "hosts",
        "host": "db1",
        "sequence": 1,
        "nonce": "n" * 16,
        "number": 1,
        "logins": [other] if more.get("others") else [],
        "clock_off_s": 0.0,
        "wrong": [],
        "authorities": [],
        "keys": [],
        "principals": {},
        **{key: value for key, value in more.items() if key != "others"},
    }
    assert Said.model_validate(said).reach("ops") == reach
