"""Files and inputs that operators get wrong are told in a sentence with a place, never as a traceback."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jitaccess.cli.policy import policy
from jitaccess.errors import JitError
from tests.support.sources import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give the shipped policies, to be spoiled."""
    return Path(shutil.copytree(ROOT / "policies", tmp_path / "policies"))


def refused(*arguments: str) -> str:
    found: Result = CliRunner().invoke(policy, list(arguments))
    assert isinstance(found.exception, JitError), found.exception
    return found.exception.message


@pytest.mark.covers("R27")
def test_what_is_not_utf_8_is_told_with_its_place(folder: Path) -> None:
    (folder / "bad.yaml").write_bytes("version: 1\nä: ".encode() + b"\xff\n")
    assert refused("check", str(folder)) == f"{folder}/bad.yaml:2:4 is not UTF-8 text: save the file as UTF-8."


@pytest.mark.covers("R27")
def test_a_folder_with_the_name_of_a_policy_is_told(folder: Path) -> None:
    (folder / "x.yaml").mkdir()
    assert refused("test", str(folder)) == f"{folder}/x.yaml is a folder, not a file: give it another name."
