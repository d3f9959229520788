"""Do nginx and Caddy take what the page of a system gives to paste, for a broker on this machine and for one over TLS?"""

import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flask import Flask

from jitaccess.broker.clients import CALLBACK_PATH, AuthMethod, ClientFacts
from jitaccess.connectors import config_models
from jitaccess.policy.load import load
from jitaccess.web import joining
from jitaccess.web.joining import policy_snippet, snippets
from tests.support.sources import ROOT

pytestmark = pytest.mark.slow
LIMIT_S = 60
PLACES = [("http://localhost:8000", "http://localhost:8081"), ("https://localhost", "https://pay.example")]
"""(broker, application). Names in an nginx configuration are resolved when it is read, so the broker's is one that every machine knows."""


def rendered(issuer: str, origin: str) -> dict[str, str]:
    """Return the texts by name, as the page shows them."""
    app = Flask("snippets", template_folder=str(ROOT / "jitaccess" / "web" / "templates"))
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    joining.install(app)
    behind = ClientFacts(
        "CL1", "my-system", "Pay", (f"{origin}{CALLBACK_PATH}",), AuthMethod.FORWARD_AUTH, None, None, None, None, ()
    )
    with app.test_request_context("/"):
        policy = f"{policy_snippet('mof', 'staff').text}\ninstitutions:\n  mof:\n    name: M\n"
        target = load({"p.yaml": policy}, connectors=config_models()).targets["my-system"]
        found = snippets(issuer, target, [behind])
    return {one.name: one.text for several in found.values() for one in several}


def certificate(folder: Path) -> None:
    """Write a key and a certificate of this test's own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pay.example")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(1))
    (folder / "pay.example.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "pay.example.key").write_bytes(key.private_bytes(*pem))


@pytest.mark.covers("R43")
@pytest.mark.parametrize(("issuer", "origin"), PLACES)
def test_nginx_takes_the_text(tmp_path: Path, issuer: str, origin: str) -> None:
    binary = shutil.which("nginx", path="/usr/sbin:/usr/bin") or shutil.which("nginx")
    if binary is None:
        pytest.skip("no nginx found: apt install nginx-light")
    found = rendered(issuer, origin)
    certificate(tmp_path)
    (tmp_path / "jit-question.conf").write_text(found["jit-question.conf"])
    (tmp_path / "server.conf").write_text(found["nginx.conf"].replace("/etc/nginx/", f"{tmp_path}/"))
    kept = "".join(f"{name}_temp_path {tmp_path};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    whole = f"pid {tmp_path}/pid; events {{}} http {{ access_log off; {kept} include server.conf; }}"
    (tmp_path / "nginx.conf").write_text(whole)
    command = [binary, "-t", "-e", "stderr", "-p", f"{tmp_path}/", "-c", f"{tmp_path}/nginx.conf"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.covers("R43")
@pytest.mark.parametrize(("issuer", "origin"), PLACES)
def test_caddy_takes_the_text(tmp_path: Path, issuer: str, origin: str) -> None:
    binary = shutil.which("caddy")
    if binary is None:
        pytest.skip("no Caddy found: apt install caddy")
    (tmp_path / "Caddyfile").write_text(rendered(issuer, origin)["Caddyfile"])
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    command = [binary, "adapt", "--validate", "--config", str(tmp_path / "Caddyfile"), "--adapter", "caddyfile"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    asked = re.findall(r'"dial":\s*"([^"]+)"', done.stdout)
    assert {"localhost:443" if issuer.startswith("https") else "localhost:8000", "127.0.0.1:8090"} == set(asked)
    transports = re.findall(r'"transport":\s*{(.*?)}\s*[,}]', done.stdout, re.DOTALL)
    assert len(transports) == 4, "the question and three doors under the application's own address"
    assert {'"tls":' in one for one in transports} == {issuer.startswith("https")}, "over TLS, or on this machine"
