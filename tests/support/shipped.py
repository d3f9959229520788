"""Writes what `examples/` ships for nginx and Caddy: the texts of the joining page, with the addresses of the examples in them.

`python -m tests.support.shipped` writes the files; a test of the joining page compares them. There is no second copy to keep.
"""

from collections.abc import Mapping
from pathlib import Path

from flask import Flask

from jitaccess.broker.clients import CALLBACK_PATH, AuthMethod, ClientFacts
from jitaccess.connectors import config_models
from jitaccess.policy.load import load
from jitaccess.web import joining
from jitaccess.web.joining import policy_snippet, snippets
from tests.support.sources import ROOT

BROKER = "http://localhost:8000"
CADDY_HEAD = """\
# An application behind jitaccess: Caddy asks the broker about every request (forward_auth). README.md says how to start it.
# broker 127.0.0.1:8000 · application 127.0.0.1:8090 · people come to http://localhost:8082
# Below these options stands the very text that the page of a system gives to paste.
{
	admin off
	auto_https off
}

"""
PLACEHOLDER = "CLIENT_ID"
"""Where the id stands that `jitaccess clients add-proxied` prints."""


def texts(issuer: str, origin: str, *, client_id: str = PLACEHOLDER) -> Mapping[str, str]:
    """Return what the joining page gives to paste for an application behind a proxy, by the name of its file."""
    app = Flask("snippets", template_folder=str(ROOT / "jitaccess" / "web" / "templates"))
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    joining.install(app)
    uri, method = f"{origin}{CALLBACK_PATH}", AuthMethod.FORWARD_AUTH
    behind = ClientFacts(client_id, "my-system", "Pay", (uri,), method, None, None, None, None, ())
    policy = f"{policy_lines(app)}\ninstitutions:\n  mof:\n    name: M\n"
    target = load({"p.yaml": policy}, connectors=config_models()).targets["my-system"]
    with app.test_request_context("/"):
        found = snippets(issuer, target, [behind])
    return {one.name: one.text for several in found.values() for one in several}


def policy_lines(app: Flask) -> str:
    """Return the policy's lines for one more system."""
    with app.test_request_context("/"):
        return policy_snippet("mof", "staff").text


def files() -> Mapping[Path, str]:
    """Return every generated file of the examples and its text."""
    nginx, caddy = (texts(BROKER, f"http://localhost:{port}") for port in (8081, 8082))
    folder = ROOT / "examples"
    return {
        folder / "nginx" / "jit-server.conf": f"{nginx['nginx.conf']}\n",
        folder / "nginx" / "jit-question.conf": f"{nginx['jit-question.conf']}\n",
        folder / "caddy" / "Caddyfile": f"{CADDY_HEAD}{caddy['Caddyfile']}\n",
        folder / "node" / "verify.mjs": f"{nginx['verify.mjs']}\n",
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
