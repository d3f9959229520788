"""What is special about SSH: revocations that only go forward, sessions that end, hosts that say so themselves."""

import base64
import hashlib
import json
import os
import pwd
import re
import signal
import struct
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from jitaccess.connectors.contract import Connector, Credential, Effect, LeaseSpec, Secret, Unreachable, Unusable
from jitaccess.connectors.ssh_ca import certificate, krl
from jitaccess.connectors.ssh_ca.authority import key_of, public_line
from jitaccess.connectors.ssh_ca.connector import BULLETIN, serial_of
from jitaccess.connectors.ssh_ca.reports import Said
from jitaccess.connectors.ssh_ca.wire import blob_of_line, fingerprint, line_of, sign, string
from jitaccess.store.ids import new_id, new_secret
from tests.support.bench import LoginRefused, end, open_connector, refused, soon
from tests.support.sk_agent import PRESENT, VERIFIED, SkAgent

if TYPE_CHECKING:
    from tests.connectors.kind_ssh_ca import SshBench
else:
    SshBench = Any

KINDS = ("ssh_ca",)
PROMISED_S = 5.0


def spec(bench: SshBench, seconds: float = 600, key: str | None = None) -> LeaseSpec:
    now = datetime.now(UTC)
    given = {"public_key": key or bench.person_key}
    return LeaseSpec(new_id(now), "person", "hosts", bench.entitlement, now, now + timedelta(seconds=seconds), given)


def born(bench: SshBench, connector: Connector, seconds: float = 600) -> tuple[Effect, Credential]:
    effect = connector.plan(spec(bench, seconds))
    return effect, connector.apply(effect, soon())


def look_at(bench: SshBench, credential: Credential) -> str:
    (line,) = (text.reveal() for name, text in credential.files.items() if name.endswith("-cert.pub"))
    file = bench.folder / "look.pub"
    file.write_text(line)
    return subprocess.run(["ssh-keygen", "-L", "-f", file], capture_output=True, text=True, check=True).stdout


@pytest.mark.covers("R48", "R53")
def test_a_certificate_says_one_principal_its_serial_and_nothing_that_policy_does_not(
    bench: SshBench, connector: Connector
) -> None:
    before = datetime.now(UTC).astimezone().replace(microsecond=0, tzinfo=None)
    effect, credential = born(bench, connector)
    seen = [line.strip() for line in look_at(bench, credential).splitlines()]
    assert f'Key ID: "{effect.name}"' in seen
    assert f"Serial: {serial_of(effect.name)}" in seen
    at = seen.index("Principals:")
    assert seen[at : at + 4] == ["Principals:", "jit-operator", "Critical Options: (none)", "Extensions: (none)"]
    valid = next(line for line in seen if line.startswith("Valid: ")).split()
    since, until = datetime.fromisoformat(valid[2]), datetime.fromisoformat(valid[4])
    assert timedelta(seconds=-60) <= since - before <= timedelta()
    assert until <= before + timedelta(seconds=601)
    for secret in (bench.secret().reveal(), "PRIVATE"):
        assert secret not in credential.command
        assert all(secret not in text.reveal() for text in credential.files.values())
    end(connector, effect)
    proof = connector.clean([effect])[effect.name]
    assert proof["account"] == "absent"
    assert set(proof["hosts"]) == {bench.host}


@pytest.mark.covers("R53")
def test_options_and_extensions_are_what_policy_says_and_sshd_obeys(bench: SshBench) -> None:
    config = dict(bench.config())
    meaning = {
        **config["entitlements"]["operator"],
        "extensions": ["permit-pty"],
        "force_command": "echo forced; cat",
        "source_address": ["127.0.0.0/8", "10.0.0.0/8"],
    }
    connector = open_connector(bench, {**config, "entitlements": {"operator": meaning}})
    effect, credential = born(bench, connector)
    seen = look_at(bench, credential)
    assert "force-command echo forced; cat" in seen
    assert "source-address 127.0.0.0/8,10.0.0.0/8" in seen
    assert seen.rstrip().endswith("permit-pty")
    done = subprocess.run(
        [*bench.command(credential), "true"], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.stdout == "forced\n"
    end(connector, effect)
    elsewhere = {**config, "entitlements": {"operator": {**meaning, "source_address": ["10.0.0.0/8"]}}}
    connector = open_connector(bench, elsewhere)
    effect, credential = born(bench, connector)
    assert refused(bench, credential)
    end(connector, effect)


@pytest.mark.covers("R50", "R53", "TRAP-10")
def test_a_live_session_with_what_it_started_ends_within_five_seconds(bench: SshBench, connector: Connector) -> None:
    effect, credential = born(bench, connector)
    with bench.login(credential) as session:
        child = int(session.run("sleep 600 & echo $!") or "0")
        began = time.monotonic()
        proof = connector.cut([effect])[effect.name]
        took = time.monotonic() - began
        assert not session.alive()
    print(f"session ended and confirmed after {took:.2f} s")
    assert took < PROMISED_S
    assert proof["sessions"] == 0
    assert not running(child)
    assert refused(bench, credential)
    log = (bench.folder / "sshd.log").read_text()
    assert f"revoked by file {bench.place}/ssh/krl" in log, "sshd itself refuses it by the list of revocations"
    connector.clean([effect])


@pytest.mark.covers("R49", "R53")
def test_the_host_ends_sessions_at_the_end_of_the_lease_without_the_broker(
    bench: SshBench, connector: Connector
) -> None:
    effect, credential = born(bench, connector, seconds=3)
    ends = datetime.now(UTC) + timedelta(seconds=3)
    with bench.login(credential) as session:
        bench.door.spoil = lambda body: b"the broker is away"
        try:
            while session.alive():
                assert datetime.now(UTC) < ends + timedelta(seconds=PROMISED_S)
                time.sleep(0.1)
        finally:
            bench.door.spoil = None
    end(connector, effect)


@pytest.mark.covers("R53")
def test_a_principal_that_the_host_does_not_take_is_refused(bench: SshBench) -> None:
    config = dict(bench.config())
    other = {**config["entitlements"]["operator"], "principal": "jit-root"}
    connector = open_connector(bench, {**config, "entitlements": {"operator": other}})
    effect, credential = born(bench, connector)
    assert refused(bench, credential)
    end(connector, effect)


def test_only_the_account_of_the_entitlement_is_opened(bench: SshBench, connector: Connector) -> None:
    effect, credential = born(bench, connector)
    command = bench.command(credential, account="root")
    assert subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 255
    end(connector, effect)


@pytest.mark.covers("R35", "R53")
def test_a_certificate_that_was_not_announced_opens_nothing_though_the_authority_signed_it(
    bench: SshBench, connector: Connector
) -> None:
    effect, credential = born(bench, connector)
    now = datetime.now(UTC)
    content = certificate.Content(
        int(str(effect.detail["serial"])), effect.name, "jit-operator", now, now + timedelta(hours=1), {}, ()
    )
    forged = certificate.sign(key_of(bench.secret()), bench.person_key.rpartition(" ")[0], content, bytes(32))
    files = {name: Secret(forged) if name.endswith("-cert.pub") else text for name, text in credential.files.items()}
    assert not refused(bench, credential)
    assert refused(bench, Credential(username="", command=credential.command, files=files)), "same serial, same key id"
    end(connector, effect)


@pytest.mark.covers("R58")
def test_another_host_key_is_refused_by_the_command_that_people_get(bench: SshBench) -> None:
    config = dict(bench.config())
    other = open_connector(
        bench, {**config, "confirm": "none", "hosts": [{**config["hosts"][0], "key": bench.person_key}]}
    )
    effect, credential = born(bench, other)
    assert refused(bench, credential)
    other.cut([effect])
    with_ca = open_connector(bench, {**config, "host_ca": [bench.host_key]})
    effect, credential = born(bench, with_ca)
    (known,) = (text.reveal() for name, text in credential.files.items() if name.endswith("known_hosts"))
    assert known == f"@cert-authority [localhost]:{bench.port} {' '.join(bench.host_key.split()[:2])}\n"
    end(with_ca, effect)


@pytest.mark.covers("R53")
def test_a_damaged_or_older_list_leaves_the_one_that_is_there(bench: SshBench, connector: Connector) -> None:
    effect, credential = born(bench, connector)
    end(connector, effect)
    krl, log = bench.place / "ssh" / "krl", bench.folder / "helper.log"
    bench.wait_for(lambda: bench.board.read().number == number_of(krl), "the newest list is there")
    before, owner = krl.read_bytes(), krl.stat()
    old, older = bench.board.read(), 7

    def signed(number: int, nonce: str, content: bytes) -> bytes:
        """Return a bulletin that the authority itself signed."""
        text = json.dumps(
            {
                "v": 1,
                "target": "hosts",
                "nonce": nonce,
                "at_us": int(old.at.timestamp() * 1e6),
                "number": number,
                "krl": base64.b64encode(content).decode(),
                "live": {},
                "trusted": [*bench.connector().public_keys()],
            }
        )
        signature = sign(key_of(bench.secret()), BULLETIN, text.encode())
        return json.dumps({"bulletin": text, "signature": signature}).encode()

    def nonce(body: bytes) -> str:
        return str(json.loads(json.loads(body)["bulletin"])["nonce"])

    def changed(body: bytes) -> bytes:
        found = json.loads(body)
        return json.dumps({**found, "bulletin": found["bulletin"].replace('"v":1', '"v": 1')}).encode()

    later = bench.board.read().number + 1
    spoiled = {
        "cut short": (lambda body: body[: len(body) // 2], "Unterminated|Expecting|char"),
        "empty": (lambda body: b"", "Expecting value"),
        "changed on the way": (changed, "ssh-keygen -Y verify"),
        "of another asking": (lambda body: signed(later, "another", before), "an old one"),
        "older": (lambda body: signed(older, nonce(body), before), "is older than"),
        "with an empty list": (lambda body: signed(later, nonce(body), b""), "damaged list"),
        "with another number in the list": (lambda body: signed(later, nonce(body), before), "damaged list"),
    }
    for name, (spoil, said) in spoiled.items():
        start = log.stat().st_size
        bench.door.spoil = spoil
        try:
            bench.wait_for(lambda s=start, words=said: re.search(words, log.read_text()[s:]), name)
        finally:
            bench.door.spoil = None
        assert krl.read_bytes() == before, name
    effect, credential = born(bench, connector)
    assert not refused(bench, credential), "it goes on with the next good one"
    end(connector, effect)
    after = krl.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (owner.st_mode, owner.st_uid, owner.st_gid)
    assert number_of(krl) > struct.unpack(">Q", before[12:20])[0]


def number_of(krl: Any) -> int:
    return int(struct.unpack(">Q", krl.read_bytes()[12:20])[0])


@pytest.mark.covers("R49", "R53")
def test_a_host_without_news_lets_nobody_in(bench: SshBench, connector: Connector) -> None:
    effect, credential = born(bench, connector)
    assert not refused(bench, credential)
    settings = bench.place / "host.json"
    settings.write_text(json.dumps({**bench.helper_config, "stale_s": 1}))
    bench.door.spoil = lambda body: b"the broker is away"
    try:
        bench.wait_for(lambda: refused(bench, credential), "refused without news")
        settings.write_text(json.dumps({**bench.helper_config, "stale_s": 1, "when_stale": "alarm"}))
        assert not refused(bench, credential), "the owner chose to be told instead"
    finally:
        bench.door.spoil = None
        settings.write_text(json.dumps(bench.helper_config))
    bench.wait_for(lambda: not refused(bench, credential), "with news again")
    end(connector, effect)


@pytest.mark.covers("R51")
def test_a_host_that_does_not_say_so_keeps_an_end_unproven(bench: SshBench) -> None:
    config = {**bench.config(), "silent_after_s": 4}
    connector = open_connector(bench, config)
    effect, credential = born(bench, connector)
    bench.helper.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(Unreachable, match="localhost"):
            connector.cut([effect])
        with pytest.raises(Unreachable):
            connector.clean([effect])
        with pytest.raises(Unreachable):
            connector.observe()
        published = open_connector(bench, {**config, "confirm": "none"})
        proof = published.cut([effect])[effect.name]
        assert proof["login"] == "published"
        assert proof["silent"] == [bench.host]
        assert published.clean([effect])[effect.name]["account"] == "published"
        assert published.observe().accounts == {}
    finally:
        bench.helper.send_signal(signal.SIGCONT)
    bench.wait_for(lambda: confirmed(connector, effect), "the host says so")
    assert refused(bench, credential)


def confirmed(connector: Connector, effect: Effect) -> bool:
    with suppress(Unreachable):
        return bool(connector.clean([effect]))
    return False


@pytest.mark.covers("R51", "R53")
def test_only_the_hosts_of_an_entitlement_are_told_of_its_certificates_and_asked_for_their_end(bench: SshBench) -> None:
    config = dict(bench.config())
    here = config["entitlements"]["operator"]
    parts = {"operator": {**here, "hosts": [bench.host]}, "elsewhere": {**here, "hosts": ["db2"]}}
    hosts = [*config["hosts"], {"name": "db2", "key": bench.person_key}]
    connector = open_connector(bench, {**config, "hosts": hosts, "entitlements": parts})
    effect, credential = born(bench, connector)
    assert not refused(bench, credential)
    foreign = connector.plan(replace(spec(bench), entitlement="elsewhere"))
    files = connector.apply(foreign, soon()).files
    command = credential.command.replace(effect.name, foreign.name)
    assert refused(bench, Credential(username="", command=command, files=files)), "same account, same principal"
    proofs = connector.cut([effect, foreign])
    assert set(proofs) == {effect.name}, "the silent one keeps only its own from being proven"
    assert set(proofs[effect.name]["hosts"]) == {bench.host}
    with pytest.raises(Unreachable, match="not confirmed by db2"):
        connector.cut([foreign])
    connector.clean([effect])


@pytest.mark.covers("R57")
def test_a_silent_host_beside_one_that_reports_is_a_finding_and_named(bench: SshBench) -> None:
    config = dict(bench.config())
    both = open_connector(bench, {**config, "hosts": [*config["hosts"], {"name": "db2", "key": bench.person_key}]})
    assert "db2: silent" in both.observe().accounts
    assert "missing: db2 does not report" in both.probe()
    effect, _ = born(bench, both)
    with pytest.raises(Unreachable, match="not confirmed by db2"):
        both.cut([effect])
    end(open_connector(bench), replace(effect, detail={**effect.detail, "hosts": [bench.host]}))


@pytest.mark.covers("R57")
def test_what_sshd_trusts_beside_what_was_set_up_is_found(bench: SshBench, connector: Connector) -> None:
    settings, trusted, helper = (bench.place / name for name in ("sshd_config", "ssh/ca.pub", "host.json"))
    before = {file: file.read_text() for file in (settings, trusted, helper)}
    foreign = f"{bench.person_key}\n"
    found = {
        "localhost: passwordauthentication yes",
        f"localhost: revokedkeys {bench.place}/ssh/none",
        f"localhost: authority {fingerprint(blob_of_line(bench.person_key))}",
    }
    try:
        text = before[settings].replace("PasswordAuthentication no", "PasswordAuthentication yes")
        settings.write_text(text.replace(f"RevokedKeys {bench.place}/ssh/krl", f"RevokedKeys {bench.place}/ssh/none"))
        trusted.write_text(before[trusted] + foreign)
        bench.wait_for(lambda: found <= set(connector.observe().accounts), "it is found")
        assert any(line.endswith("passwordauthentication yes") for line in connector.probe())
        answer = connector.quarantine("localhost: passwordauthentication yes", remove=True)
        assert not answer.done
        assert "targets setup ssh_ca" in answer.statement
    finally:
        for file, text in before.items():
            file.write_text(text)
    bench.wait_for(lambda: not found & set(connector.observe().accounts), "all is as it was")


@pytest.mark.covers("R57")
def test_a_principal_that_policy_does_not_know_is_found(bench: SshBench) -> None:
    config = dict(bench.config())
    other = {**config["entitlements"]["operator"], "principal": "jit-reader"}
    connector = open_connector(bench, {**config, "entitlements": {"operator": other}})
    assert f"localhost: {bench.account} takes jit-operator" in connector.observe().accounts
    assert f"missing: localhost: {bench.account} does not take jit-reader" in connector.probe()


def test_the_authority_is_never_refused_as_a_stray_key(bench: SshBench, connector: Connector) -> None:
    key = fingerprint(blob_of_line(bench.connector().public_keys()[0]))
    assert not connector.quarantine(f"localhost: root authority key {key}", remove=True).done
    assert f"key {key}" not in bench.board.read().entries


@pytest.mark.covers("R50")
def test_what_runs_on_under_an_account_without_other_use_is_ended(bench: SshBench, connector: Connector) -> None:
    settings = bench.place / "host.json"
    settings.write_text(json.dumps({**bench.helper_config, "sole": [bench.account]}))
    restart(bench)
    try:
        effect, credential = born(bench, connector)
        bench.wait_for(lambda: bench.account in heard(bench).sole, "the host has said so")
        with bench.login(credential) as session:
            leaves = "(setsid nohup sh -c 'echo $$ >left; exec sleep 600' >/dev/null 2>&1 &)"
            session.run(f"cd; {leaves}; while ! [ -s left ]; do sleep 0.05; done; cat left")
            left = int((bench.place / "home" / "left").read_text())
            assert running(left)
            proof = connector.cut([effect])[effect.name]
        assert proof["sessions_seen"] == {bench.host: "account"}
        bench.wait_for(lambda: not running(left), "it is ended")
        connector.clean([effect])
    finally:
        settings.write_text(json.dumps(bench.helper_config))
        restart(bench)


@pytest.mark.covers("R50", "R51")
def test_without_logind_the_proof_says_that_only_the_login_is_known_to_be_over(
    bench: SshBench, connector: Connector
) -> None:
    effect, credential = born(bench, connector)
    with bench.login(credential) as session:
        leaves = "(setsid nohup sh -c 'echo $$ >left; exec sleep 600' >/dev/null 2>&1 &)"
        session.run(f"cd; rm -f left; {leaves}; while ! [ -s left ]; do sleep 0.05; done; cat left")
        left = int((bench.place / "home" / "left").read_text())
        proof = connector.cut([effect])[effect.name]
    by_logind = Path("/run/systemd/sessions").is_dir() and heard(bench).logind
    assert (proof["sessions"], proof["sessions_seen"]) == (0, {bench.host: "logind" if by_logind else "login"})
    assert running(left) is not by_logind, "the proof says what is so"
    assert connector.clean([effect])[effect.name]["sessions_seen"] == proof["sessions_seen"]
    if running(left):
        os.kill(left, signal.SIGKILL)


def heard(bench: SshBench) -> Said:
    """Return what the host said last."""
    return Said.model_validate(json.loads(bench.board.read().reports[bench.host].text))


def running(pid: int) -> bool:
    """Say whether a process is there and is more than what its parent has not been told of yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def restart(bench: SshBench) -> None:
    bench.helper.kill()
    bench.helper.wait()
    bench.run_helper()


@pytest.mark.covers("R52", "R35")
def test_both_authorities_are_trusted_while_one_is_exchanged(bench: SshBench) -> None:
    old, new = bench.secret(), Secret(new_secret())
    before = open_connector(bench)
    trusted = set(before.public_keys())
    effect, credential = born(bench, before)
    between = open_connector(bench, None, old, new)
    between.rotate_own(old, new)
    assert not refused(bench, credential), "what the old one signed holds until its end"
    assert set(between.public_keys()) == trusted | {public_line(key_of(new))}
    fresh, newer = born(bench, between)
    assert not refused(bench, newer)
    assert look_at(bench, newer) != look_at(bench, credential)
    with pytest.raises(Unreachable, match="not that of the authority"):
        before.apply(before.plan(spec(bench)), soon())
    between.rotate_own(new, old)
    end(between, fresh)
    end(between, effect)


def test_only_what_the_host_signed_is_answered_and_an_older_report_is_not_kept(
    bench: SshBench, connector: Connector
) -> None:
    genuine = bench.board.read().reports[bench.host]
    publisher: Any = connector
    forged = sign(key_of(Secret(new_secret())), "jitaccess-report", genuine.text.encode())
    said = json.loads(genuine.text)
    older = json.dumps({**said, "sequence": 1})
    signed, other_use = (
        subprocess.run(
            ["ssh-keygen", "-Y", "sign", "-q", "-f", bench.folder / "host", "-n", namespace],
            input=older,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for namespace in ("jitaccess-report", "git")
    )
    for text, signature in (
        (genuine.text, forged),
        (genuine.text.replace('"v": 1', '"v": 1 '), genuine.signature),
        (older, other_use),
        (older, ""),
        ("[" * 5000, signed),
        ("x" * 300_000, signed),
    ):
        with pytest.raises(Unusable):
            publisher.exchange(text, signature)
    publisher.exchange(older, signed)
    assert json.loads(bench.board.read().reports[bench.host].text)["sequence"] > 1


@pytest.mark.covers("R53", "TRAP-15")
@pytest.mark.parametrize("verified", [True, False])
def test_a_security_key_comes_in_with_a_certificate_of_its_own_kind(bench: SshBench, verified: bool) -> None:
    config = dict(bench.config())
    meaning = {**config["entitlements"]["operator"], "hardware_key": True, "verify_required": True}
    connector = open_connector(bench, {**config, "entitlements": {"operator": meaning}})
    with pytest.raises(Unusable, match="security key"):
        connector.plan(spec(bench))
    place = bench.folder / f"agent-{verified}"
    agent = SkAgent(place, PRESENT | VERIFIED if verified else PRESENT)
    try:
        effect = connector.plan(spec(bench, key=agent.line))
        credential = connector.apply(effect, soon())
        assert "sk-ssh-ed25519-cert-v01@openssh.com" in look_at(bench, credential)
        command = [*bench.command(credential), "-o", f"IdentityAgent={place}"]
        (bench.folder / "id_ed25519_sk").write_text(f"{agent.line}\n")  # on a device there is its handle instead
        (bench.folder / "id_ed25519_sk").chmod(0o600)
        if verified:
            with bench.shell(command) as session:
                assert session.alive()
                connector.cut([effect])
                assert not session.alive()
        with pytest.raises(LoginRefused), bench.shell(command):
            pass
        end(connector, effect)
    finally:
        agent.close()


@pytest.mark.covers("R50", "R51")
@pytest.mark.parametrize("what", ["a pipe in place of keys", "thousands of keys"])
def test_a_person_cannot_hold_up_the_host_by_what_it_looks_at(
    bench: SshBench, connector: Connector, what: str, tmp_path: Path
) -> None:
    keys, kept = bench.place / "keys" / bench.account, tmp_path / "kept"
    if keys.exists():
        kept.write_text(keys.read_text())
        keys.unlink()
    effect, credential = born(bench, connector)
    try:
        if what == "thousands of keys":
            blobs = (string(b"ssh-ed25519") + string(new_secret()[:32].encode()) for _ in range(3000))
            keys.write_text("".join(f"{line_of(blob)}\n" for blob in blobs))
            bench.wait_for(lambda: "localhost: more keys than are told" in connector.observe().accounts, "it is said")
        else:
            os.mkfifo(keys)
            looks = bench.helper_config["look_every_s"]
            time.sleep(3 * looks)  # so that it has been looked at while the pipe was there
        with bench.login(credential) as session:
            began = time.monotonic()
            connector.cut([effect])
            assert time.monotonic() - began < PROMISED_S
            assert not session.alive()
    finally:
        keys.unlink()
        if kept.exists():
            keys.write_text(kept.read_text())
    connector.clean([effect])
    bench.wait_for(lambda: "localhost: more keys than are told" not in connector.observe().accounts, "all is as it was")


@pytest.mark.covers("R50")
def test_a_chain_of_processes_that_leave_their_parents_is_ended_too(bench: SshBench, connector: Connector) -> None:
    settings = bench.place / "host.json"
    settings.write_text(json.dumps({**bench.helper_config, "sole": [bench.account]}))
    restart(bench)
    try:
        effect, credential = born(bench, connector)
        tick = bench.place / "home" / "tick"
        with bench.login(credential) as session:
            session.run("cd; relay() { echo x >>tick; sleep 0.01; relay & }; (relay) >/dev/null 2>&1; echo going")
            bench.wait_for(lambda: tick.exists() and tick.stat().st_size > 20, "it goes on")
            connector.cut([effect])
        connector.clean([effect])
        user = pwd.getpwnam(bench.account).pw_uid
        # One look at /proc can miss a chain that forks meanwhile; what it writes cannot be missed.
        bench.wait_for(lambda: stands_still(tick), "it goes on no more")
        assert not any(running(pid) for pid in processes_of(user))
    finally:
        settings.write_text(json.dumps(bench.helper_config))
        restart(bench)


def stands_still(file: Path) -> bool:
    """Say whether nothing was added to a file for a while."""
    size = file.stat().st_size
    time.sleep(0.3)
    return file.stat().st_size == size


def processes_of(user: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == user:
                found.append(int(entry.name))
    return found


def test_nobody_else_can_hold_the_lock_between_logins_and_news(bench: SshBench) -> None:
    lock = bench.place / "logins" / ".lock"
    assert lock.stat().st_mode & 0o077 == 0
    assert lock.parent.stat().st_mode & 0o077 == 0
    assert (bench.place / "state" / "state.json").stat().st_mode & 0o022 == 0


@pytest.mark.covers("R53")
@pytest.mark.parametrize("count", [0, 1, 4096, 4097, 20_000])
def test_openssh_reads_every_list_that_we_write(bench: SshBench, tmp_path: Path, count: int) -> None:
    serials = [serial_of(f"jit-{number}") for number in range(count)]
    key = fingerprint(blob_of_line(bench.host_key))
    file = tmp_path / "krl"
    file.write_bytes(krl.write(number=count + 1, at=datetime.now(UTC), serials=serials, fingerprints=[key]))
    listed = subprocess.run(["ssh-keygen", "-Q", "-l", "-f", file], capture_output=True, text=True, check=True).stdout
    assert f"# KRL version {count + 1}\n" in listed
    found = {int(line.split()[1]) for line in listed.splitlines() if line.startswith("serial: ")}
    assert found == set(serials)
    digest = hashlib.sha256(blob_of_line(bench.host_key)).hexdigest()
    assert f"hash: SHA256:{digest}" in listed or f"hash: {key}" in listed, (
        "older and newer versions write it differently"
    )


@pytest.mark.covers("R53", "TRAP-15")
def test_openssh_reads_the_certificate_of_every_type_of_key(bench: SshBench, tmp_path: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    blob = string(b"sk-ecdsa-sha2-nistp256@openssh.com") + string(b"nistp256") + string(point) + string(b"ssh:")
    lines = [line_of(blob)]
    for kind, bits in (("ed25519", "256"), ("ecdsa", "521"), ("rsa", "3072")):
        make = ["ssh-keygen", "-q", "-t", kind, "-b", bits, "-N", "", "-f", tmp_path / kind]
        subprocess.run(make, check=True)
        lines.append(" ".join((tmp_path / f"{kind}.pub").read_text().split()[:2]))
    now = datetime.now(UTC)
    content = certificate.Content(
        9, "jit-x", "ops", now, now + timedelta(hours=1), {"verify-required": ""}, ("permit-pty",)
    )
    for line in lines:
        file = tmp_path / "look.pub"
        file.write_text(certificate.sign(key_of(bench.secret()), line, content, bytes(32)))
        seen = subprocess.run(["ssh-keygen", "-L", "-f", file], capture_output=True, text=True, check=True).stdout
        kind = line.split()[0].removesuffix("@openssh.com")
        assert f"Type: {kind}-cert-v01@openssh.com user certificate" in seen
        for said in ("Serial: 9\n", 'Key ID: "jit-x"', "ops\n", "verify-required", "permit-pty"):
            assert said in seen, line
