"""Does `jitaccess-sdk` stand alone: built without any tool, installed beside nothing of the broker's, and equal to this tree?"""

import base64
import csv
import hashlib
import importlib.util
import json
import subprocess
import sys
import tarfile
import time
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey
from packaging.metadata import Metadata
from packaging.requirements import Requirement

from jitaccess import __version__
from tests.support.sources import ROOT

ISSUER, AUDIENCE = "https://jit.example", "https://treasury.example"
EXTRAS = {"flask", "fastapi", "django", "click"}
VERIFY = """
import importlib, json, pkgutil, sys
sys.path[:0] = sys.argv[1:3]
import jitaccess.sdk, jitaccess.proof
for room in (jitaccess.sdk, jitaccess.proof):
    for found in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
        if found.name.rpartition(".")[2] not in ("flask", "fastapi", "django", "commands", "__main__"):
            importlib.import_module(found.name)
asked = json.load(sys.stdin)
verifier = jitaccess.sdk.Verifier(asked["issuer"], asked["audience"], asked["jwks"])
said = []
for token in asked["tokens"]:
    try:
        said.append(verifier.verify(token).entitlement)
    except jitaccess.sdk.TokenRefused as refused:
        said.append(refused.code)
print(json.dumps({"said": said, "from": jitaccess.__file__, "version": jitaccess.__version__,
                  "loaded": sorted({name.partition(".")[0] for name in sys.modules})}))
"""


def backend(folder: Path) -> ModuleType:
    """Load the build backend as a front end would: from its own folder."""
    spec = importlib.util.spec_from_file_location("backend", folder / "backend.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    return folder / backend(ROOT / "sdk").build_wheel(str(folder))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


@pytest.fixture(scope="module")
def dependencies(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with what the wheel requires, and what that requires, and nothing else."""
    folder = tmp_path_factory.mktemp("dependencies")
    waiting = [line for line in required(installed) if line.marker is None]
    while waiting:
        requirement = waiting.pop()
        found = metadata.distribution(requirement.name)
        assert requirement.specifier.contains(found.version)
        for file in found.files or []:
            top = file.parts[0]
            if top != ".." and not (folder / top).exists():
                (folder / top).symlink_to(str(found.locate_file(top)))
        inner = (Requirement(text) for text in found.requires or [])
        waiting += [one for one in inner if one.marker is None or one.marker.evaluate({"extra": ""})]
    return folder


def required(installed: Path) -> list[Requirement]:
    """Return the requirements that the wheel declares."""
    text = (installed / f"jitaccess_sdk-{__version__}.dist-info" / "METADATA").read_bytes()
    return Metadata.from_email(text).requires_dist or []


def token(key: ECKey, **change: object) -> str:
    """Mint a token as the broker does."""
    now = int(time.time())
    details = {"type": "jit_access", "target": "treasury", "entitlement": "viewer", "inputs": {}, "grant": "g"}
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "person",
        "client_id": "client",
        "jti": "jti",
        "iat": now,
        "exp": now + 60,
        "authorization_details": [details | {"ends_at": now + 60}],
    }
    return jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": "k"}, claims | change, key, algorithms=["ES256"])


def test_it_verifies_in_an_interpreter_that_has_nothing_of_the_broker(installed: Path, dependencies: Path) -> None:
    key = ECKey.generate_key("P-256", {"kid": "k"})
    asked = {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "jwks": {"keys": [key.as_dict(private=False)]},
        "tokens": [token(key), token(key, aud="https://other.example"), token(key, exp=1), "x"],
    }
    command = [sys.executable, "-I", "-S", "-B", "-c", VERIFY, str(installed), str(dependencies)]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["said"] == ["viewer", "wrong_audience", "expired", "malformed"]
    assert answer["from"] == str(installed / "jitaccess" / "__init__.py")
    assert answer["version"] == __version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = {"cryptography", "joserfc", "rfc8785"}
    brokers = {Requirement(line).name.replace("-", "_") for line in project["dependencies"]} - ours
    assert not brokers & set(answer["loaded"])


def test_every_file_is_this_trees_own_and_the_record_is_true(installed: Path) -> None:
    info = installed / f"jitaccess_sdk-{__version__}.dist-info"
    recorded = {name: (digest, size) for name, digest, size in csv.reader((info / "RECORD").read_text().splitlines())}
    there = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    assert recorded.keys() == there
    for name in there - {f"{info.name}/RECORD"}:
        raw = (installed / name).read_bytes()
        digest = base64.urlsafe_b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")
        assert recorded[name] == (f"sha256={digest}", str(len(raw)))
        if name.startswith("jitaccess/"):  # the broker installed into the same place writes these very bytes
            assert raw == (ROOT / name).read_bytes()
    rooms = [path for room in ("sdk", "proof") for path in (ROOT / "jitaccess" / room).rglob("*.py")]
    assert {path.relative_to(ROOT).as_posix() for path in rooms} | {"jitaccess/__init__.py"} == {
        name for name in there if name.startswith("jitaccess/")
    }


def test_what_it_asks_for_is_what_the_broker_asks_for(installed: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    same = {Requirement(line).name: str(Requirement(line).specifier) for line in project["dependencies"]}
    for requirement in required(installed):
        if requirement.marker is None:
            assert str(requirement.specifier) == same[requirement.name]
    extras = {one.name for one in required(installed) if one.marker is not None}
    assert extras == EXTRAS


def test_the_source_archive_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    name = backend(ROOT / "sdk").build_sdist(str(tmp_path))
    with tarfile.open(tmp_path / name) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4; our own archive either way
        archive.extractall(tmp_path)
    unpacked = tmp_path / name.removesuffix(".tar.gz")
    again = tmp_path / backend(unpacked).build_wheel(str(tmp_path))
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()
