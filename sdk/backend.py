"""How do `jitaccess` and `jitaccess-sdk` become wheels? A build backend of this tree (PEP 517), so that building fetches nothing.

A wheel holds the files that `[tool.jitaccess-build]` of its `pyproject.toml` names, byte for byte, in a fixed order with a fixed date: the
same tree gives the same wheel. What a project `beside` packs is left out, so that no file has two owners. The sources of the SDK lie beside
its folder in a checkout and inside it in an unpacked archive.
"""

import base64
import hashlib
import io
import re
import tarfile
import tomllib
import zipfile
from pathlib import Path

WHEEL = "Wheel-Version: 1.0\nGenerator: jitaccess\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip archive knows."""


def _here() -> Path:
    """Return the project's folder: hooks are called in it (PEP 517)."""
    return Path.cwd()


def _all(place: Path) -> dict:
    return tomllib.loads((place / "pyproject.toml").read_text())


def _project() -> dict:
    return _all(_here())["project"]


def _build(place: Path) -> dict:
    return _all(place)["tool"]["jitaccess-build"]


def _root() -> Path:
    """Return the folder that holds `jitaccess/`."""
    return _here() if (_here() / "jitaccess").is_dir() else _here().parent


def _packed(place: Path) -> dict[str, bytes]:
    """Return path in the wheel -> bytes of every file that a project's `packages` name."""
    root, found = _root(), {}
    for name in _build(place)["packages"]:
        for file in [root / name] if (root / name).is_file() else sorted((root / name).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".pyc":
                found[file.relative_to(root).as_posix()] = file.read_bytes()
    return found


def _sources() -> dict[str, bytes]:
    """Return what this project packs: without what those beside it do."""
    beside = {name for place in _build(_here()).get("beside", []) for name in _packed(_here() / place)}
    return {name: raw for name, raw in _packed(_here()).items() if name not in beside}


def _licence() -> bytes:
    return (_root() / "LICENSE").read_bytes()


def _version() -> str:
    found = re.search(r'^__version__ = "([^"]+)"$', (_root() / "jitaccess" / "__init__.py").read_text(), re.MULTILINE)
    if found is None or _project().get("version", found[1]) != found[1]:
        raise SystemExit("jitaccess/__init__.py says no version, or another one than pyproject.toml")
    return found[1]


def _base() -> str:
    """Return name and version as file names have them."""
    return f"{_project()['name'].replace('-', '_')}-{_version()}"


def _metadata() -> bytes:
    """Return METADATA (core metadata 2.4) from the project table."""
    project = _project()
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {project['name']}",
        f"Version: {_version()}",
        f"Summary: {project['description']}",
        f"License-Expression: {project['license']}",
        *(f"License-File: {name}" for name in project["license-files"]),
        f"Requires-Python: {project['requires-python']}",
        *(f"Requires-Dist: {requirement}" for requirement in project["dependencies"]),
    ]
    for extra, requirements in project["optional-dependencies"].items():
        lines.append(f"Provides-Extra: {extra}")
        lines += [f'Requires-Dist: {requirement}; extra == "{extra}"' for requirement in requirements]
    lines.append("Description-Content-Type: text/markdown")
    return "\n".join([*lines, "", (_here() / project["readme"]).read_text()]).encode()


def _entry_points() -> bytes:
    project = _project()
    groups = {"console_scripts": project.get("scripts", {}), **project.get("entry-points", {})}
    lines = [
        line
        for group, places in groups.items()
        if places
        for line in (f"[{group}]", *(f"{name} = {place}" for name, place in places.items()), "")
    ]
    return "\n".join(lines).encode()


def _dist_info() -> dict[str, bytes]:
    folder = f"{_base()}.dist-info"
    found = {
        f"{folder}/METADATA": _metadata(),
        f"{folder}/WHEEL": WHEEL.encode(),
        f"{folder}/licenses/LICENSE": _licence(),
    }
    if points := _entry_points():
        found[f"{folder}/entry_points.txt"] = points
    return found


def _line(name: str, raw: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")
    return f"{name},sha256={digest},{len(raw)}\n"


def get_requires_for_build_wheel(config_settings: object = None) -> list[str]:
    """Return what must be there to build: nothing."""
    return []


get_requires_for_build_sdist = get_requires_for_build_wheel


def build_wheel(wheel_directory: str, config_settings: object = None, metadata_directory: object = None) -> str:
    """Write the wheel; return its name."""
    files = _sources() | _dist_info()
    record = f"{_base()}.dist-info/RECORD"
    files[record] = ("".join(_line(name, raw) for name, raw in files.items()) + f"{record},,\n").encode()
    name = f"{_base()}-py3-none-any.whl"
    with zipfile.ZipFile(Path(wheel_directory) / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, raw in files.items():
            entry = zipfile.ZipInfo(path, DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, raw)
    return name


def build_sdist(sdist_directory: str, config_settings: object = None) -> str:
    """Write the source archive; return its name. It holds what `build_wheel` reads."""
    base, project = _base(), _project()
    names = ("pyproject.toml", project["readme"], *_build(_here())["archive"])
    own = {name: (_here() / name).read_bytes() for name in names}
    files = own | {"PKG-INFO": _metadata(), "LICENSE": _licence()} | _packed(_here())
    name = f"{base}.tar.gz"
    with tarfile.open(Path(sdist_directory) / name, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for path, raw in files.items():
            entry = tarfile.TarInfo(f"{base}/{path}")
            entry.size = len(raw)
            archive.addfile(entry, io.BytesIO(raw))
    return name
