"""Is what is shipped for installing safe and of one version: image, compose file, proxy, units, settings?"""

import configparser
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from jitaccess import __version__
from jitaccess.connectors.ssh_ca import KIND
from jitaccess.settings import load
from tests.support.sources import ROOT

DEPLOY = ROOT / "deploy"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
EXACT = re.compile(r"[\w./-]+:\d+\.\d+(\.\d+)?(-[\w.]+)*(@sha256:[0-9a-f]{64})?")
"""An image with an exact version; `latest`, `3` and no tag at all are other images tomorrow."""
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def compose() -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load((DEPLOY / "compose.yaml").read_text())
    return found


def test_one_version_is_written_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
    assert f'org.opencontainers.image.version="{__version__}"' in DOCKERFILE
    images = {service["image"] for service in compose()["services"].values()}
    assert f"jitaccess:{__version__}" in images


def test_the_image_runs_as_nobody_special_and_its_base_has_an_exact_version() -> None:
    instructions = [line.split(maxsplit=1) for line in DOCKERFILE.splitlines() if re.match(r"[A-Z]+ ", line)]
    assert [value for name, value in instructions if name == "USER"] == ["10001:10001"]
    users = [number for number, (name, _) in enumerate(instructions) if name == "USER"]
    assert not [name for name, _ in instructions[users[-1] :] if name in ("RUN", "COPY", "ADD")]
    bases = [value.removeprefix("BASE=") for name, value in instructions if name == "ARG"]
    assert len(bases) == 1
    assert EXACT.fullmatch(bases[0])
    assert re.match(r"python:3\.(1[1-9])\.\d+-slim-", bases[0])
    froms = [value.split(" AS ")[0] for name, value in instructions if name == "FROM"]
    assert set(froms) == {"${BASE}"}
    assert "ADD " not in DOCKERFILE
    assert "--require-hashes" in DOCKERFILE
    assert "--only-binary :all:" in DOCKERFILE


def test_only_what_the_program_needs_goes_into_the_image() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[0] == "*"
    assert [line for line in lines if line.startswith("!")] == ["!jitaccess", "!policies", "!requirements.txt"]
    copied = re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE, re.M)
    assert {f"!{name}" for name in copied} == {line for line in lines if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)


def test_every_container_has_an_exact_version_and_no_rights_to_spare() -> None:
    found = compose()
    for name, service in found["services"].items():
        assert EXACT.fullmatch(service["image"]), name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.keys() & {"privileged", "pid", "ipc", "devices", "cap_add"}, name
        assert service.get("network_mode") in (None, "service:nginx"), name
        assert not [volume for volume in service.get("volumes", []) if "docker.sock" in volume], name
    assert [name for name, service in found["services"].items() if "ports" in service] == ["nginx"]
    assert found["networks"]["inside"]["internal"] is True
    assert found["services"]["database"]["networks"] == ["inside"]


def test_no_secret_is_written_in_what_is_shipped() -> None:
    for path in [*DEPLOY.glob("*.*"), *UNITS, ROOT / "Dockerfile"]:
        found = re.findall(r"(?i)(?:password|secret|key)\w*\s*[:=]\s*[\"']?(\S+)", path.read_text())
        assert not [value for value in found if not re.match(r"/|\.|\[|file:|\"|jit_|%d|private", value)], path.name


def test_the_shipped_settings_are_read_and_fit_the_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "jit_store").write_text('{"url": "postgresql+psycopg://jitaccess:x@database/jitaccess"}')
    (tmp_path / "jit_mail").write_text('{"username": "jitaccess", "password": "x"}')
    monkeypatch.setenv("JIT_SECRETS_DIR", str(tmp_path))
    settings = load(DEPLOY / "jitaccess.toml")
    assert settings.store.url.startswith("postgresql")
    assert (settings.mail.username, settings.mail.host) == ("jitaccess", "mail.example.org")
    assert settings.mail.password.get_secret_value() == "x"
    proxy = (DEPLOY / "nginx.conf").read_text()
    assert f"proxy_pass http://127.0.0.1:{settings.server.port};" in proxy
    assert f"server_name {settings.rp_id};" in proxy
    assert settings.server.trusted_proxies == ("127.0.0.1",)
    assert f"client_max_body_size {settings.server.max_body_bytes // 1024}k;" in proxy
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in proxy


def test_nginx_takes_the_shipped_configuration(tmp_path: Path) -> None:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not installed: apt install nginx-light")
    certificate = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", "/CN=jit.example.org", "-keyout", str(tmp_path / "privkey.pem"), "-out", str(tmp_path / "fullchain.pem"),
    ]  # fmt: skip
    subprocess.run(certificate, check=True, capture_output=True)
    server = (DEPLOY / "nginx.conf").read_text().replace("/etc/nginx/tls", str(tmp_path))
    (tmp_path / "logs").mkdir()
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; events {{}} http {{ access_log off; client_body_temp_path {tmp_path}/b; "
        f"proxy_temp_path {tmp_path}/p; fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u; "
        f"scgi_temp_path {tmp_path}/s; {server} }}"
    )
    done = subprocess.run(
        [nginx, "-t", "-p", str(tmp_path), "-e", str(tmp_path / "error.log"), "-c", str(tmp_path / "nginx.conf")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


def unit(path: Path) -> dict[str, list[str]]:
    """Return the settings of a unit, each with all its values; systemd's files are INI files with repeated names."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        name, sign, value = line.partition("=")
        if sign:
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_gives_the_program_no_more_than_it_needs(path: Path) -> None:
    found = unit(path)
    assert found["User"] == ["jitaccess"]
    for name, value in {
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "PrivateDevices": "yes",
        "CapabilityBoundingSet": "",
        "RestrictSUIDSGID": "yes",
        "UMask": "0077",
    }.items():
        assert found[name] == [value], name
    assert found["Restart"] == ["always"]
    assert not [value for value in found["Environment"] if re.search(r"(?i)password|url", value)]


def test_the_two_units_differ_in_what_they_run_alone() -> None:
    first, second = (unit(path) for path in UNITS)
    assert {name for name in first if first[name] != second[name]} == {"Description", "ExecStart"}
    assert set(first) == set(second)
    commands = {found["ExecStart"][0].rpartition(" ")[2] for found in (first, second)}
    assert commands == {"serve", "worker"}
    for path in UNITS:
        configparser.ConfigParser(strict=False, interpolation=None).read(path)


def helper_unit() -> str:
    """Return the unit of the hosts' side of SSH targets, as `jitaccess targets setup ssh_ca` prints it."""
    return KIND.setup(None).partition("jit-ssh-host.service <<'EOF'\n")[2].partition("\nEOF\n")[0] + "\n"


@pytest.mark.parametrize("name", [*(path.name for path in UNITS), "jit-ssh-host.service"])
def test_systemd_knows_every_line_of_a_unit(tmp_path: Path, name: str) -> None:
    """It reads them all, and says nothing of a name, a value or a path that it would pass over at the start."""
    file = tmp_path / name
    text = helper_unit() if name == "jit-ssh-host.service" else (DEPLOY / "systemd" / name).read_text()
    # The programs are not installed here, nor is the user there; everything else is read as it stands.
    file.write_text(re.sub(r"(?m)^(Exec\w+)=\S+", rf"\1={shutil.which('true')}", text))
    assert unit(file)["Restart"] == ["always"]
    assert unit(file)["ExecStart"]
    if shutil.which("systemd-analyze") is None:
        return  # a machine without systemd cannot say more
    done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_hosts_side_may_do_no_more_than_it_uses_and_its_places_are_there_after_a_start(tmp_path: Path) -> None:
    file = tmp_path / "jit-ssh-host.service"
    file.write_text(helper_unit())
    found = unit(file)
    assert (found["NoNewPrivileges"], found["ProtectSystem"]) == (["yes"], ["strict"])
    assert not {"CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SETUID"} & {*found["CapabilityBoundingSet"][0].split()}
    # A path that is not there keeps a unit from starting; those under /run are gone with each start of the machine.
    script = KIND.setup(None)
    kept = re.findall(r"(?m)^install -d -o root -g root -m 755 (.+)$", script)
    again = re.findall(r"(?m)^d (\S+) ", script.partition("tmpfiles.d/jitaccess.conf <<EOF")[2].partition("\nEOF\n")[0])
    made = {*" ".join(kept).split()}
    for place in found["ReadWritePaths"][0].split():
        assert place in ({*again} if place.startswith("/run/") else made)
