"""Does `jitaccess init --pilot` make an instance in a real browser? The one-time page, driven as a founder would."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from jitaccess.app import open_broker
from jitaccess.identity.people import FOUNDERS, register
from jitaccess.settings import load
from jitaccess.store.tables import Instance, Passkey
from tests.support.browser import VirtualPasskey
from tests.support.ports import free_port

LIMIT_S = 120
FOUNDER = {"name": "Vjosa Krasniqi", "email": "vjosa@mf.example", "institution": "mf", "unit": "it"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    port = free_port()
    made = tmp_path / "jitaccess.toml"
    made.write_text(
        f'[server]\npublic_url = "http://localhost:{port}"\nport = {port}\n\n'
        f'[store]\nurl = "sqlite:///{tmp_path}/jitaccess.db"\n\n[keys]\nwrapping_key_file = "{tmp_path}/wrapping.key"\n\n'
        '[log]\norigin = "init.test/jitaccess"\n'
    )
    return made


@pytest.fixture
def running(config: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    founders = tmp_path / "founders.json"
    founders.write_text(json.dumps([FOUNDER]))
    process = subprocess.Popen(
        [sys.executable, "-m", "jitaccess", "init", "--pilot", "--founders", str(founders)],
        env=os.environ | {"JIT_CONFIG": str(config)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def address(process: subprocess.Popen[str]) -> str:
    """Return the address that is printed once the page is served."""
    assert process.stdout is not None
    return next(line.strip() for line in process.stdout if "/genesis/" in line)


@pytest.mark.slow
@pytest.mark.covers("R1", "R3", "R5")
def test_a_pilots_founder_makes_a_passkey_and_the_instance_is_written(
    page: Page, passkey: VirtualPasskey, running: subprocess.Popen[str], config: Path
) -> None:
    where = address(running)
    elsewhere = page.goto(where.rpartition("/")[0] + "/" + "A" * 43)
    assert elsewhere is not None
    assert elsewhere.status == 404, "the page is nowhere but under its secret"
    page.goto(where)
    expect(page.locator(".banner.pilot")).to_be_visible()
    expect(page.locator("article", has_text=FOUNDER["name"])).to_be_visible()
    page.get_by_role("button").first.click()
    printed, _ = running.communicate(timeout=LIMIT_S)
    assert running.returncode == 0
    assert "was created as a pilot" in printed
    assert printed.count("\n  ") >= 3, "the paper recovery keys are printed"

    broker = open_broker(load(config))
    try:
        with broker.read() as view:
            instance = view.first(select(Instance))
            assert instance is not None
            assert instance.pilot
            (person,) = register(view).persons.values()
            assert (person.name, person.institution) == (FOUNDER["name"], "mf")
            assert FOUNDERS in person.groups
            (key,) = view.all(select(Passkey))
            assert (key.person_id, key.status) == (person.id, "active")
    finally:
        broker.db.close()
    assert len(passkey.credentials()) == 1
