"""Do the import contracts bite? Each is shown a skeleton of the package with one forbidden import in it."""

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.sources import PACKAGE, ROOT

LINT_IMPORTS = Path(sys.executable).parent / "lint-imports"
ROOMS = (
    "cli",
    "demo",
    "app",
    "web",
    "oidc",
    "broker",
    "identity",
    "audit",
    "connectors",
    "tokens",
    "store",
    "policy",
    "risk",
    "domain",
    "sdk",
    "proof",
    "outbound",
    "settings",
    "clock",
    "errors",
    "language",
    "told",
)
VIOLATIONS: dict[str, list[tuple[str, str]]] = {
    "direction": [
        ("store/x.py", "import jitaccess.broker"),
        ("domain/x.py", "from jitaccess import policy"),
        ("policy/x.py", "import jitaccess.risk"),
        ("app.py", "import jitaccess.demo"),
        ("surprise/__init__.py", ""),
    ],
    "pure-core": [
        ("domain/x.py", "import os"),
        ("policy/x.py", "from time import monotonic"),
        ("risk/x.py", "import sqlalchemy"),
        ("proof/x.py", "import socket"),
        ("policy/y.py", "import jitaccess.clock"),
    ],
    "proof-stands-alone": [("proof/x.py", "import jitaccess.errors"), ("proof/y.py", "import pydantic")],
    "connectors-apart": [("connectors/one.py", "import jitaccess.connectors.two")],
    "connectors-blind": [
        ("connectors/one.py", "import jitaccess.audit"),
        ("connectors/two.py", "import flask"),
    ],
    "flask-at-the-doors": [
        ("broker/x.py", "from flask import g"),
        ("cli/x.py", "import werkzeug.exceptions"),
    ],
    "sdk-needs-only-proof": [
        ("sdk/x.py", "import jitaccess.settings"),
        ("sdk/y.py", "import jitaccess.tokens"),
        ("sdk/wsgi.py", "import flask"),
        ("sdk/flask.py", "import django"),
    ],
    "doors-without-sql": [("web/x.py", "from sqlalchemy import select"), ("cli/x.py", "import sqlalchemy")],
    "no-cycles": [("broker/x.py", "import jitaccess.broker.y"), ("web/x.py", "import jitaccess.oidc.y")],
}
EXTRA = {"broker/y.py": "import jitaccess.broker.x", "oidc/y.py": "import jitaccess.web.x", "web/z.py": ""}


def lint(folder: Path, contract: str) -> subprocess.CompletedProcess[str]:
    command = [str(LINT_IMPORTS), "--no-cache", "--no-logo", "--config", str(ROOT / ".importlinter")]
    return subprocess.run(
        [*command, "--contract", contract],
        cwd=folder,
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def skeleton(tmp_path: Path) -> Path:
    """Give a package with every room of the house, each of them empty."""
    package = tmp_path / "jitaccess"
    package.mkdir()
    (package / "__init__.py").touch()
    for room in ROOMS:
        if room in ("app", "settings", "clock", "errors", "language", "told"):
            (package / f"{room}.py").touch()
        else:
            (package / room).mkdir()
            (package / room / "__init__.py").touch()
    for name in ("one", "two"):
        (package / "connectors" / f"{name}.py").touch()
    return tmp_path


def contracts() -> list[str]:
    """Return the names of the contracts in the file."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter")
    start = "importlinter:contract:"
    return [name.removeprefix(start) for name in parser.sections() if name.startswith(start)]


def test_every_contract_has_a_violation_to_be_tried_with() -> None:
    assert set(contracts()) == set(VIOLATIONS)


@pytest.mark.parametrize("contract", VIOLATIONS)
def test_an_innocent_package_passes(skeleton: Path, contract: str) -> None:
    done = lint(skeleton, contract)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("contract", "file", "line"), [(c, *each) for c, all_ in VIOLATIONS.items() for each in all_])
def test_a_violation_is_caught(skeleton: Path, contract: str, file: str, line: str) -> None:
    for name, text in ({file: line} | (EXTRA if contract == "no-cycles" else {})).items():
        path = skeleton / "jitaccess" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    done = lint(skeleton, contract)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "BROKEN" in done.stdout, done.stdout + done.stderr


def test_each_room_of_the_package_is_known_to_the_contracts() -> None:
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there - {"__init__", "__main__"} <= set(ROOMS)


def test_the_contracts_name_no_room_that_the_house_does_not_have() -> None:
    text = (ROOT / ".importlinter").read_text()
    named = {line.strip().removeprefix("*.").partition(".")[0] for line in text.splitlines() if "    *." in line}
    assert named <= set(ROOMS)
