"""Kinds of target are found by name, their configuration is checked at load, and their secrets come from files nobody else reads."""

import json
import threading
import time
import tomllib
from base64 import b64decode
from hashlib import sha256
from hmac import digest
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, Literal

import jsonschema
import pytest
from pydantic import Field

from jitaccess.broker.targets import Targets, secret_files
from jitaccess.clock import SystemClock
from jitaccess.connectors import (
    ENTRY_POINTS,
    OWN,
    config_models,
    kinds_at,
    ldap,
    load_kinds,
    mariadb,
    postgresql,
    webhook,
)
from jitaccess.connectors.contract import (
    KindConfig,
    LeaseSpec,
    Secret,
    SecretName,
    Surroundings,
    Unreachable,
    is_own_account,
)
from jitaccess.connectors.fake import FakeConfig, FakeConnector, fake_kind
from jitaccess.connectors.postgresql.verifier import verifier
from jitaccess.connectors.ssh_ca.config import SshCaConfig
from jitaccess.errors import JitError
from jitaccess.policy.load import load
from jitaccess.policy.problems import PolicyErrors
from jitaccess.policy.schema import json_schema
from jitaccess.proof.canonical import JsonValue
from jitaccess.store.ids import new_id, new_secret
from tests.support.policy_sets import MONDAY, document, rule, text
from tests.support.sources import ROOT


class VaultConfig(KindConfig):
    """A kind of these tests."""

    kind: Literal["vaultdb"]
    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 5000
    secret: SecretName
    entitlements: dict[str, list[str]]


MODELS = {**config_models(), "vaultdb": VaultConfig}
GOOD = {"kind": "vaultdb", "host": "db.example", "secret": "db-key", "entitlements": {"use": ["r"], "own": ["w"]}}


def files(connector: object) -> dict[str, str]:
    found = document(rule())
    found["targets"]["vault"]["connector"] = connector
    return {"p.yaml": text(found)}


def test_a_kind_brings_its_model_and_the_normal_form_holds_its_defaults() -> None:
    found = load(files(GOOD), connectors=MODELS)
    assert found.targets["vault"].connector == GOOD | {"port": 5000}


@pytest.mark.covers("R27")
@pytest.mark.parametrize(
    ("change", "path", "message"),
    [
        (
            {"kind": "vaultbd"},
            "targets.vault.connector.kind",
            'unknown kind of target "vaultbd"; did you mean "vaultdb"?',
        ),
        ({"kind": 4}, "targets.vault.connector", 'the key "kind" is missing'),
        ({"hots": "x"}, "targets.vault.connector.hots", 'unknown key: "hots"; did you mean "host"?'),
        ({"port": "5"}, "targets.vault.connector.port", 'found "5", expected valid integer'),
        ({"secret": "../key"}, "targets.vault.connector.secret", "expected string should match pattern"),
        ({"entitlements": {"use": []}}, "targets.vault.connector.entitlements", '"own" is missing here'),
        (
            {"entitlements": {"use": [], "own": [], "all": []}},
            "targets.vault.connector.entitlements.all",
            '"all" is no entitlement of this target',
        ),
    ],
)
def test_a_configuration_that_cannot_be_meant_does_not_load(change: dict[str, object], path: str, message: str) -> None:
    with pytest.raises(PolicyErrors) as raised:
        load(files(GOOD | change), connectors=MODELS)
    found = {problem.path: problem for problem in raised.value.problems}
    assert message in found[path].message.replace("String", "string")
    assert found[path].line > 1


def test_without_their_packages_kinds_are_unknown() -> None:
    with pytest.raises(PolicyErrors) as raised:
        load(files(GOOD))
    assert 'unknown kind of target "vaultdb"' in str(raised.value)


def test_the_schema_for_editors_speaks_of_every_kind() -> None:
    schema = jsonschema.Draft202012Validator(json_schema(MODELS))
    assert schema.is_valid(json.loads(files(GOOD)["p.yaml"]))
    assert not schema.is_valid(json.loads(files(GOOD | {"port": "5"})["p.yaml"]))


def test_our_kinds_are_declared_for_installation_too() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"][ENTRY_POINTS] == dict(OWN)
    assert {name: kind.name for name, kind in load_kinds().items() if name in OWN} == {name: name for name in OWN}
    names = [model.__name__ for model in config_models().values()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "place"),
    [("token", "elsewhere:KIND"), ("other", "jitaccess.connectors.token:KIND"), ("other", "no.such:KIND")],
)
def test_a_package_cannot_bring_a_kind_that_is_another_or_cannot_be_loaded(name: str, place: str) -> None:
    with pytest.raises(JitError):
        kinds_at([EntryPoint(name, place, ENTRY_POINTS)])


def test_a_package_brings_a_kind_by_entry_point() -> None:
    installed = EntryPoint("token", OWN["token"], ENTRY_POINTS)
    assert set(kinds_at([installed])) == set(OWN)


def test_account_names_are_short_unique_and_hold_no_text_of_a_person() -> None:
    specs = [LeaseSpec(new_id(MONDAY), "p'; DROP", "t", "e", MONDAY, MONDAY) for _ in range(100)]
    names = {spec.account for spec in specs}
    assert len(names) == 100
    assert all(is_own_account(name) and len(name) == 30 for name in names)
    for other in ("postgres", "jit-", "jit-x", "jit-" + "z" * 26, "JIT-" + "0" * 26, "jit-jit-" + "0" * 26):
        assert not is_own_account(other)


@pytest.mark.covers("R55")
def test_secrets_come_from_files_that_nobody_else_may_read_and_never_show_themselves(tmp_path: Path) -> None:
    read = secret_files(tmp_path)
    with pytest.raises(Unreachable):
        read("db-key")
    file = tmp_path / "db-key"
    file.write_text("s3cret\n")
    file.chmod(0o644)
    with pytest.raises(Unreachable, match="chmod 600"):
        read("db-key")
    file.chmod(0o600)
    coming = tmp_path / "db-key.next"
    coming.touch(mode=0o600)
    for half in ("", "s4cret", new_secret()[:-1], f"{new_secret()}x"):
        coming.write_text(half)
        assert [secret.reveal() for secret in read("db-key")] == ["s3cret"], "what is not whole is not tried"
    coming.write_text(whole := new_secret())
    assert [secret.reveal() for secret in read("db-key")] == ["s3cret", whole]
    assert repr(read("db-key")[0]) == "***"
    for nothing in (b"", b"\n", b"\xff\xfe"):
        file.write_bytes(nothing)
        with pytest.raises(Unreachable, match="db-key"):
            read("db-key")


def test_a_target_has_one_connector_for_each_configuration() -> None:
    made: list[FakeConnector] = []

    class Counted(FakeConnector):
        def __init__(self, config: FakeConfig, around: Surroundings) -> None:
            super().__init__()
            made.append(self)

    template = fake_kind(FakeConnector())
    kind = type(template)("fake", FakeConfig, Counted, template.setup, template.enforces_expiry)
    targets = Targets(
        {"fake": kind}, Surroundings(lambda name: [Secret("x")], lambda: "y", SystemClock().now), at_once=1
    )
    one = targets.at("a", {"kind": "fake", "at": "1"})
    assert targets.at("a", {"kind": "fake", "at": "1"}) is one
    assert targets.at("a", {"kind": "fake", "at": "2"}) is not one
    assert targets.at("b", {"kind": "fake", "at": "1"}) is not one
    assert len(made) == 3
    with pytest.raises(JitError):
        targets.at("a", {"kind": "gone"})
    with pytest.raises(JitError):
        targets.at("a", {"kind": "fake", "wrong": 1})


@pytest.mark.covers("R48")
def test_nobody_overtakes_who_waits_for_a_place_at_a_target() -> None:
    targets, order = Targets({}, Surroundings(lambda name: [], lambda: "", SystemClock().now), at_once=1), list[int]()
    waiting: list[threading.Thread] = []

    def work(number: int) -> None:
        with targets.slot("t"):
            order.append(number)

    with targets.slot("t"):
        for number in (1, 2):
            waiting.append(threading.Thread(target=work, args=(number,), daemon=True))
            waiting[-1].start()
            while len(targets._places["t"]._queue) < number:
                time.sleep(0.001)
    with targets.slot(
        "t"
    ):  # who gave it back comes again at once, and is the last one: a semaphore would let it in first
        assert order == [1, 2]
    for thread in waiting:
        thread.join(5)


@pytest.mark.covers("R55")
def test_a_verifier_takes_the_proof_and_gives_the_signature_of_the_rfc() -> None:
    """RFC 7677 section 3: what the client proves there is taken with this verifier, and the server's answer comes out of it."""
    password, salt = "pencil", b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    first = "n=user,r=rOprNGfwEbeRWgbNEkqO"
    nonce = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    exchanged = f"{first},{nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,{nonce}".encode()
    kind, rounds, keys = verifier(password, 4096, salt).split("$")
    stored, server = (b64decode(key) for key in keys.split(":"))
    proof = b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    key = bytes(one ^ two for one, two in zip(proof, digest(stored, exchanged, "sha256"), strict=True))
    assert (kind, rounds) == ("SCRAM-SHA-256", "4096:W22ZaJ0SNY7soEsUEjb6gQ==")
    assert sha256(key).digest() == stored
    assert digest(server, exchanged, "sha256") == b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    for other in ("p\u00e9ncil", "pen\ncil"):
        with pytest.raises(ValueError, match="ASCII"):
            verifier(other, 4096, salt)


PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB1RnKyvcFGQXSjBSTWkzRkWbjDeFDoBTrgDsO2JLSk0"
SSH = SshCaConfig.model_validate(
    {
        "kind": "ssh_ca",
        "secret": "authority",
        "hosts": [{"name": "db1", "key": PUBLIC_KEY}],
        "entitlements": {"operator": {"principal": "operator", "account": "ops"}},
    }
)
PG = postgresql.PostgresqlConfig.model_validate(
    {
        "kind": "postgresql",
        "host": "db.example",
        "database": "app",
        "secret": "db",
        "entitlements": {"e": {"roles": ["r"]}},
    }
)
HOST: JsonValue = {"name": "db2", "port": 22, "key": PUBLIC_KEY}


@pytest.mark.covers("R52")
@pytest.mark.parametrize(
    ("example", "harmless", "moved"),
    [
        (PG, {"root_ca": "/new.pem", "user": "other", "secret": "other"}, {"host": "other.example"}),
        (mariadb.EXAMPLE, {"root_ca": "/new.pem", "account_host": "10.%"}, {"port": 3307}),
        (ldap.EXAMPLE, {"root_ca": "/new.pem", "secret": "other"}, {"leases": "ou=other,dc=example"}),
        (ldap.EXAMPLE, {"tls": "starttls"}, {"dynamic": False}),
        (webhook.EXAMPLE, {"root_ca": "/new.pem", "timeout_s": 3}, {"url": "https://other.example/"}),
        (
            SSH,
            {"hosts": [*(one.model_dump() for one in SSH.hosts), HOST]},
            {"hosts": [HOST]},
        ),
        (SSH, {"silent_after_s": 30}, {"secret": "other"}),
    ],
)
def test_each_kind_says_which_of_its_keys_are_the_place(
    example: KindConfig, harmless: dict[str, JsonValue], moved: dict[str, JsonValue]
) -> None:
    before = example.model_dump(mode="json")
    kind = load_kinds()[str(before["kind"])]
    assert kind.same_place(before, before | harmless)
    assert not kind.same_place(before, before | moved)
    spelt_out = {key: value for key, value in before.items() if value != type(example).model_fields[key].default}
    assert kind.same_place(before, spelt_out), "what is left out is what it is by default"
    assert not kind.same_place(before, before | {"nonsense": 1})
