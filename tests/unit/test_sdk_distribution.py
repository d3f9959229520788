"""Does `jitaccess-sdk` stand alone: built without any tool, installed beside nothing of the broker's, and equal to this tree?"""

import base64
import configparser
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
from contextlib import chdir
from importlib import metadata
from pathlib import Path

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
verifier = jitaccess.sdk.Verifier(asked["issuer"], asked["audience"], asked["jwks"], status=None)
said = []
for token in asked["tokens"]:
    try:
        said.append(verifier.verify(token).entitlement)
    except jitaccess.sdk.TokenRefused as refused:
        said.append(refused.code)
print(json.dumps({"said": said, "from": jitaccess.__file__, "version": jitaccess.__version__,
                  "loaded": sorted({name.partition(".")[0] for name in sys.modules})}))
"""


def build(project: Path, into: Path, *, what: str = "wheel") -> Path:
    """Build a project as a front end would: with the backend that it names, in its own folder (PEP 517)."""
    (place,) = tomllib.loads((project / "pyproject.toml").read_text())["build-system"]["backend-path"]
    spec = importlib.util.spec_from_file_location("backend", project / place / "backend.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with chdir(project):
        assert getattr(module, f"get_requires_for_build_{what}")() == [], "building fetches nothing"
        return into / str(getattr(module, f"build_{what}")(str(into)))


def unpacked_archive(project: Path, into: Path) -> Path:
    """Build a project's source archive and unpack it; return the folder."""
    name = build(project, into, what="sdist").name
    with tarfile.open(into / name) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4; our own archive either way
        archive.extractall(into)
    return into / name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT / "sdk", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("broker"))


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
    ours = {"cryptography", "joserfc", "rfc8785", "jitaccess_sdk"}
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


@pytest.mark.parametrize("project", [ROOT / "sdk", ROOT], ids=["sdk", "broker"])
def test_the_source_archive_makes_the_same_wheel(project: Path, wheel: Path, broker: Path, tmp_path: Path) -> None:
    first = wheel if project != ROOT else broker
    again = build(unpacked_archive(project, tmp_path), tmp_path)
    assert again.name == first.name
    assert again.read_bytes() == first.read_bytes()


# ---------------------------------------------------------------- beside the broker


def files_of(*wheels: Path) -> list[str]:
    """Return what the wheels put into `site-packages`, without what tells of them."""
    found = [name for wheel in wheels for name in zipfile.ZipFile(wheel).namelist()]
    return [name for name in found if ".dist-info/" not in name]


def test_no_file_has_two_owners_and_both_together_are_the_tree(wheel: Path, broker: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "-z", "jitaccess"], cwd=ROOT, capture_output=True, check=True).stdout
    tracked = {name for name in listed.decode().split("\0") if name}
    both = files_of(wheel, broker)
    assert len(both) == len(set(both)), "the later of two owners would overwrite the earlier"
    assert tracked <= set(both)
    assert not [name for name in set(both) - tracked if not (ROOT / name).is_file() or name.endswith(".pyc")]
    shared = ("jitaccess/__init__.py", "jitaccess/sdk/", "jitaccess/proof/")
    assert not [name for name in files_of(broker) if name.startswith(shared)]
    assert not [name for name in files_of(wheel) if not name.startswith(shared)]


def test_the_broker_asks_for_the_sdk_of_its_own_version(broker: Path) -> None:
    info = f"jitaccess-{__version__}.dist-info"
    archive = zipfile.ZipFile(broker)
    found = Metadata.from_email(archive.read(f"{info}/METADATA"))
    assert found.requires_dist is not None
    asked = [str(one) for one in found.requires_dist if one.name.startswith("jitaccess")]
    assert asked == [f"jitaccess-sdk=={__version__}"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    points = configparser.ConfigParser(delimiters="=")
    points.read_string(archive.read(f"{info}/entry_points.txt").decode())
    assert {group: dict(points[group]) for group in points.sections()} == {
        "console_scripts": project["scripts"],
        **project["entry-points"],
    }


RUN = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import jitaccess, jitaccess.sdk
from jitaccess.cli import main
print(jitaccess.__file__, jitaccess.sdk.__file__)
main()
"""


@pytest.mark.parametrize("order", ["broker first", "sdk first"])
def test_both_in_one_environment_work_in_either_order_and_part_without_harm(
    wheel: Path, broker: Path, tmp_path: Path, order: str
) -> None:
    wheels = [broker, wheel] if order == "broker first" else [wheel, broker]
    for one in wheels:
        zipfile.ZipFile(one).extractall(tmp_path)
    command = [sys.executable, "-I", "-B", "-c", RUN, str(tmp_path), "policy", "check", str(ROOT / "policies")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path / 'jitaccess' / '__init__.py'} {tmp_path / 'jitaccess' / 'sdk'}")
    for name in files_of(broker):  # as an uninstallation does
        (tmp_path / name).unlink()
    left = {path.relative_to(tmp_path).as_posix() for path in (tmp_path / "jitaccess").rglob("*") if path.is_file()}
    assert left == set(files_of(wheel)), "the SDK stays whole when the broker goes"
