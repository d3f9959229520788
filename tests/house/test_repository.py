"""May a newcomer rely on the repository: hashed lists without addresses, unchanged files of others, no
strays?"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.sources import ROOT, tracked

VENDOR = ROOT / "jitaccess" / "web" / "static" / "vendor"
LISTS = sorted(ROOT.glob("requirements*.txt"))
HERE = "|".join((r"(?<![\w.])/" + "work/", "/ro" + r"ot/(?!\.ssh)", "/tmp/" + "bp"))
"""Paths that exist on one machine only."""
BINARY = {".png", ".ico", ".woff2", ".mo", ".gz", ".db"}


def pins(path: Path) -> set[tuple[str, str]]:
    """Return the packages of a list with their versions; markers may give a package two of them."""
    found = re.findall(r"^([\w.-]+)(?:\[[\w,.-]+\])?==([^\s;\\]+)", path.read_text(), re.M)
    return {(normal(name), version) for name, version in found}


def normal(requirement: str) -> str:
    """Return the normalised name of a requirement (PEP 503)."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=~! ]", requirement)[0]).lower()


def test_there_are_lists_for_running_testing_and_measuring() -> None:
    assert [path.name for path in LISTS] == [
        "requirements-bench.txt",
        "requirements-dev.txt",
        "requirements.txt",
    ]


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.name)
def test_every_pin_has_hashes_and_no_list_has_an_address(path: Path) -> None:
    text = path.read_text()
    blocks = re.split(r"\n(?=\S)", text)
    assert len(pins(path)) == len(blocks)
    assert all("--hash=sha256:" in block for block in blocks)
    assert not re.search(r"://|--index-url|--extra-index-url|--find-links|--trusted-host", text)


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.name)
def test_no_list_has_what_is_of_this_tree(path: Path) -> None:
    assert not OF_THIS_TREE & {package for package, _ in pins(path)}


def test_the_test_list_holds_the_same_versions_as_the_running_list() -> None:
    assert pins(ROOT / "requirements.txt") <= pins(ROOT / "requirements-dev.txt")


OF_THIS_TREE = {"jitaccess-sdk"}
"""What is run as it lies here, and so is neither fetched nor pinned."""


def test_every_declared_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {"requirements.txt": project["project"]["dependencies"]}
    wanted["requirements-dev.txt"] = project["dependency-groups"]["dev"]
    wanted["requirements-bench.txt"] = project["dependency-groups"]["bench"]
    for name, requirements in wanted.items():
        assert {normal(line) for line in requirements} - OF_THIS_TREE <= {package for package, _ in pins(ROOT / name)}


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.name)
def test_a_pin_names_the_extras_that_others_ask_of_it(path: Path) -> None:
    # pip refuses `coverage[toml]` of a dependency beside a pinned plain `coverage` as soon as a newer release is out.
    pinned = {
        normal(name): set(filter(None, extras.split(",")))
        for name, extras in re.findall(r"^([\w.-]+)(?:\[([\w,.-]+)\])?==", path.read_text(), re.M)
    }
    for name in pinned:
        try:
            asked = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # another platform's, or not installed for tests
            continue
        for requirement in map(Requirement, asked):
            wanted = normal(requirement.name)
            if wanted in pinned and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
                assert requirement.extras <= pinned[wanted], f"{name} asks for {requirement}"


def test_no_lock_file_with_addresses_is_kept() -> None:
    names = {Path(name).name for name in tracked()}
    assert not names & {"uv.lock", "pylock.toml", "poetry.lock", "Pipfile.lock", "yarn.lock"}
    locks = [name for name in tracked() if name.endswith("package-lock.json")]
    assert not [name for name in locks if '"resolved"' in (ROOT / name).read_text()]


def test_no_path_of_one_machine_is_written_down() -> None:
    found = []
    for name in tracked():
        if Path(name).suffix not in BINARY and not (ROOT / name).is_relative_to(VENDOR):
            text = (ROOT / name).read_text(errors="replace")
            found += [f"{name}:{n}" for n, line in enumerate(text.split("\n"), 1) if re.search(HERE, line)]
    assert not found


@pytest.mark.parametrize("path", ["/work" + "/x", "see /root" + "/notes", "/tmp" + "/bp/a.md"])
def test_a_path_of_one_machine_is_seen(path: str) -> None:
    assert re.search(HERE, path)


def test_files_of_others_are_unchanged_and_carry_their_licence() -> None:
    sums = dict(line.split("  ")[::-1] for line in (VENDOR / "SHA256SUMS").read_text().splitlines())
    there = {path.name for path in VENDOR.iterdir()} - {"SHA256SUMS", "README.md"}
    assert sums.keys() == there
    for name, expected in sums.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == expected, name
    table = (VENDOR / "README.md").read_text()
    for name in there:
        assert f"`{name}`" in table
        if not name.endswith(".LICENSE.txt"):
            assert f"{name.split('.')[0]}.LICENSE.txt" in there


def test_the_scripts_parse_and_may_be_run() -> None:
    for shell, name in (("sh", "jit"), ("bash", ".ci/run")):
        assert os.access(ROOT / name, os.X_OK)
        subprocess.run([shell, "-n", str(ROOT / name)], check=True)


FAKE_UV = """#!/bin/sh
[ "$1" = cache ] && { echo "$HOME/cache"; exit; }
echo "$1 $2${UV_NO_CACHE:+ without a cache}" >>"$LOG"
[ -e "$BROKEN" ] && [ "$1" = pip ] && exit 1
if [ "$1" = venv ]; then
    for last; do :; done
    mkdir -p "$last/bin" && touch "$last/pyvenv.cfg" && ln -sf "$PYTHON" "$last/bin/python"
fi
exit 0
"""


@pytest.fixture
def newcomer(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """Give a tree with spaces in its path and an environment in which `uv` only takes notes."""
    tree = tmp_path / "my tree"
    (tree / "jitaccess").mkdir(parents=True)
    shutil.copy(ROOT / "jit", tree / "jit")
    (tree / "requirements.txt").write_text("one\n")
    (tree / "jitaccess" / "__main__.py").write_text("import sys; print('ran', *sys.argv[1:], sep='|')")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "uv").write_text(FAKE_UV)
    (tools / "uv").chmod(0o755)
    environment = {
        "PATH": f"{tools}:/usr/bin:/bin",
        "LOG": str(tmp_path / "log"),
        "BROKEN": str(tmp_path / "broken"),
    }
    return tree, environment | {"PYTHON": sys.executable, "HOME": str(tmp_path)}


def demo(tree: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(tree / "jit"), "demo", *arguments]
    return subprocess.run(command, env=environment, cwd=tree.parent, capture_output=True, text=True, check=False)


def test_the_first_run_prepares_and_the_second_does_not(newcomer: tuple[Path, dict[str, str]]) -> None:
    tree, environment = newcomer
    log = Path(environment["LOG"])
    first = demo(tree, environment, "--name", "two words")
    assert (first.returncode, first.stdout) == (0, "ran|demo|--name|two words\n"), first.stderr
    assert log.read_text().splitlines() == ["venv --quiet", "pip install"]
    assert demo(tree, environment).returncode == 0
    assert len(log.read_text().splitlines()) == 2
    (tree / "requirements.txt").write_text("one\ntwo\n")
    assert demo(tree, environment).returncode == 0
    assert log.read_text().splitlines()[2:] == ["pip install"]


def test_a_home_that_cannot_be_written_to_is_done_without(newcomer: tuple[Path, dict[str, str]]) -> None:
    tree, environment = newcomer
    a_file = tree / "requirements.txt"
    assert demo(tree, environment | {"HOME": str(a_file)}).returncode == 0
    assert Path(environment["LOG"]).read_text().splitlines() == [
        "venv --quiet without a cache",
        "pip install without a cache",
    ]


def test_called_through_links_it_finds_its_tree(newcomer: tuple[Path, dict[str, str]]) -> None:
    tree, environment = newcomer
    (tree.parent / "bin").mkdir()
    (tree.parent / "bin" / "first").symlink_to(tree / "jit")
    (tree.parent / "bin" / "jit").symlink_to("first")
    assert demo(tree.parent / "bin", environment).stdout == "ran|demo\n"


def test_an_interrupted_preparation_is_taken_up_again(newcomer: tuple[Path, dict[str, str]]) -> None:
    tree, environment = newcomer
    Path(environment["BROKEN"]).touch()
    assert demo(tree, environment).returncode != 0
    Path(environment["BROKEN"]).unlink()
    assert demo(tree, environment).stdout == "ran|demo\n"


def test_an_environment_whose_python_is_gone_is_made_anew(newcomer: tuple[Path, dict[str, str]]) -> None:
    tree, environment = newcomer
    assert demo(tree, environment).returncode == 0
    python = tree / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nonexistent/python")
    assert demo(tree, environment).stdout == "ran|demo\n"


def test_a_folder_that_is_no_environment_is_never_emptied(newcomer: tuple[Path, dict[str, str]]) -> None:
    tree, environment = newcomer
    precious = tree / "precious.txt"
    precious.touch()
    done = demo(tree, environment | {"JIT_VENV": str(tree)})
    assert done.returncode == 1
    assert "name another folder" in done.stderr
    assert precious.exists()


def test_without_uv_and_python_one_sentence_says_what_to_install(
    newcomer: tuple[Path, dict[str, str]],
) -> None:
    tree, environment = newcomer
    bare = tree.parent / "bare"
    bare.mkdir()
    for name in ("sh", "dirname", "cksum", "rm", "cat", "ls"):
        (bare / name).symlink_to(shutil.which(name) or name)
    done = demo(tree, environment | {"PATH": str(bare)})
    assert done.returncode == 1
    assert "apt install python3-venv" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_command_is_refused_with_the_list() -> None:
    done = subprocess.run([str(ROOT / "jit"), "dmeo"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "./jit demo" in done.stderr
