"""How does `jitaccess-sdk` become a wheel? A build backend of this tree (PEP 517), so that building fetches nothing at all.

The wheel holds the files that `[tool.jitaccess-sdk]` names, byte for byte and in a fixed order with a fixed date: the same tree gives the
same wheel. Sources lie beside this folder in a checkout and inside it in an unpacked sdist.
"""

import base64
import hashlib
import io
import re
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
WHEEL = "Wheel-Version: 1.0\nGenerator: jitaccess-sdk\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip archive knows."""


def _project() -> dict:
    return tomllib.loads((HERE / "pyproject.toml").read_text())


def _root() -> Path:
    """Return the folder that holds `jitaccess/`."""
    return HERE if (HERE / "jitaccess").is_dir() else HERE.parent


def _sources() -> Iterator[tuple[str, bytes]]:
    """Give (path in the wheel, bytes) of every file of ours."""
    root = _root()
    for name in _project()["tool"]["jitaccess-sdk"]["packages"]:
        place = root / name
        for file in [place] if place.is_file() else sorted(place.rglob("*.py")):
            yield file.relative_to(root).as_posix(), file.read_bytes()


def _licence() -> bytes:
    return (_root() / "LICENSE").read_bytes()


def _version() -> str:
    found = re.search(r'^__version__ = "([^"]+)"$', (_root() / "jitaccess" / "__init__.py").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit("jitaccess/__init__.py says no version")
    return found[1]


def _metadata() -> bytes:
    """Return METADATA (core metadata 2.4) from the project table."""
    project = _project()["project"]
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
    return "\n".join([*lines, "", (HERE / project["readme"]).read_text()]).encode()


def _scripts() -> bytes:
    lines = [f"{name} = {place}" for name, place in _project()["project"].get("scripts", {}).items()]
    return "\n".join(["[console_scripts]", *lines, ""]).encode() if lines else b""


def _dist_info() -> dict[str, bytes]:
    folder = f"jitaccess_sdk-{_version()}.dist-info"
    found = {
        f"{folder}/METADATA": _metadata(),
        f"{folder}/WHEEL": WHEEL.encode(),
        f"{folder}/licenses/LICENSE": _licence(),
    }
    if scripts := _scripts():
        found[f"{folder}/entry_points.txt"] = scripts
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
    files = dict(_sources()) | _dist_info()
    record = f"jitaccess_sdk-{_version()}.dist-info/RECORD"
    files[record] = ("".join(_line(name, raw) for name, raw in files.items()) + f"{record},,\n").encode()
    name = f"jitaccess_sdk-{_version()}-py3-none-any.whl"
    with zipfile.ZipFile(Path(wheel_directory) / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, raw in files.items():
            entry = zipfile.ZipInfo(path, DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, raw)
    return name


def build_sdist(sdist_directory: str, config_settings: object = None) -> str:
    """Write the source archive; return its name. It holds what `build_wheel` reads."""
    base = f"jitaccess_sdk-{_version()}"
    own = {name: (HERE / name).read_bytes() for name in ("pyproject.toml", "README.md", "backend.py")}
    files = own | {"PKG-INFO": _metadata(), "LICENSE": _licence()} | dict(_sources())
    name = f"{base}.tar.gz"
    with tarfile.open(Path(sdist_directory) / name, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for path, raw in files.items():
            entry = tarfile.TarInfo(f"{base}/{path}")
            entry.size = len(raw)
            archive.addfile(entry, io.BytesIO(raw))
    return name
