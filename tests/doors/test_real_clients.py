"""Do ordinary OpenID Connect clients work as they come? Authlib, npm's openid-client and oauth4webapi, Apache's mod_auth_openidc.

Each is configured from the discovery document alone, signs a person in through Chromium with a passkey, asks who it is, renews, is told of
the end by back-channel logout and signs out. Nothing in them is patched or told what this provider leaves out.
"""

import base64
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from authlib.integrations.flask_client import OAuth
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from flask import Flask, request, url_for
from joserfc import jwt
from joserfc.jwk import KeySet
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page

from jitaccess.app import create_app, open_broker
from jitaccess.broker import revoke
from jitaccess.broker.logout import LogoutSender
from jitaccess.clock import FrozenClock, SystemClock
from jitaccess.demo.seed import read_policies, seed
from jitaccess.domain.values import LOCAL
from jitaccess.oidc.clients import add_client
from jitaccess.settings import Server
from jitaccess.store.tables import Grant
from jitaccess.tokens.keys import create_wrapping_key
from tests.oidc.test_treasury import Serving
from tests.support.browser import VirtualPasskey
from tests.support.node import install, node
from tests.support.ports import free_port
from tests.support.reachable import open_the_way
from tests.support.world import EVERYBODY, ROOT, World, settings_for

START_S = 60
APACHE = Path("/usr/sbin/apache2")
MODULES = Path("/usr/lib/apache2/modules")


@dataclass(slots=True)
class Door:
    """A broker on a real socket, and Arta's grant for the treasury."""

    world: World
    issuer: str
    grant: Grant
    folder: Path
    sender: LogoutSender

    def register(self, origin: str, *, callback: str, backchannel: str, goodbye: str) -> tuple[str, str]:
        """Register a client; return its id and secret."""
        with self.world.broker.begin(LOCAL) as tx:
            client, secret = add_client(
                tx,
                target="treasury",
                name="Treasury payments",
                redirect_uris=[f"{origin}{callback}"],
                backchannel_logout_uri=f"{origin}{backchannel}",
                post_logout_redirect_uris=[f"{origin}{goodbye}"],
            )
        assert secret is not None
        return client.id, secret

    def hand_back(self) -> None:
        """End the grant, and tell who is to be told."""
        current = self.world.current("arta")
        with self.world.broker.begin(current.actor) as tx:
            revoke.hand_back(tx, current, self.grant.id)
        self.tell()

    def tell(self) -> None:
        """Send what is to be told, by the machine's own time: the broker's stands still, and what it signs lives two minutes only."""
        self.world.advance(SystemClock().now() - self.world.clock.now())
        self.sender.run(wait_s=START_S)


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    """Serve a fresh broker at the machine's own time, with one live grant."""
    port = free_port()
    issuer = f"http://localhost:{port}"
    settings = settings_for(f"sqlite:///{tmp_path / 'broker.db'}", tmp_path, server=Server(public_url=issuer))
    clock = FrozenClock(SystemClock().now())
    policy = read_policies(ROOT / "policies")
    seeded = seed(settings, clock, create_wrapping_key(tmp_path / "wrapping.key"), policy, enrolled=EVERYBODY)
    broker = open_broker(settings, clock)
    broker.may_grant.set()
    world = World(broker, clock, seeded, tmp_path)
    grant = world.filed(duration_s=1800).grant
    assert grant is not None
    sender = LogoutSender(broker)
    serving = Serving(create_app(broker), port)
    yield Door(world, issuer, grant, tmp_path, sender)
    sender.close()
    serving.stop()
    world.close()


def sign_in(door: Door, page: Page, passkey: VirtualPasskey, begin: str) -> None:
    """Go to an application that wants a sign-in; do what a person does, until the browser is back there."""
    soft = door.world.passkey("arta")
    private = soft.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    passkey.add(
        {
            "credentialId": base64.b64encode(soft.credential_id).decode(),
            "isResidentCredential": True,
            "rpId": "localhost",
            "privateKey": base64.b64encode(private).decode(),
            "userHandle": base64.b64encode(base64.urlsafe_b64decode(f"{soft.user_handle}=")).decode(),
            "signCount": soft.counter + 100,
        }
    )
    page.set_default_timeout(30_000)
    page.goto(begin)
    open_button = page.get_by_role("button", name="Open with your passkey")
    button = page.get_by_role("button", name="Sign in with a passkey")
    for tries in range(300):  # sign-in completes by autofill, or by its button
        if open_button.count():
            break
        page.wait_for_timeout(100)
        if tries % 50 == 49 and button.count():
            with suppress(PlaywrightError):  # autofill may finish at this very moment and take the button away
                button.click(timeout=2_000)
    assert door.grant.id in page.content()
    open_button.click()
    page.wait_for_url(lambda url: not url.startswith(door.issuer))


def shown(page: Page) -> Any:
    """Return the JSON that a page shows."""
    return json.loads(page.locator("body").inner_text())


def sign_out(door: Door, page: Page, begin: str) -> None:
    """Sign out from the application's side, and say yes on the broker's page."""
    page.goto(begin)
    page.get_by_role("main").get_by_role("button", name="Sign out").click()
    page.wait_for_url(lambda url: not url.startswith(door.issuer))


# ---------------------------------------------------------------- Node


@pytest.mark.covers("R33", "R34", "R38", "R40")
@pytest.mark.parametrize("library", ["openid-client", "oauth4webapi"])
def test_a_node_client_signs_in_renews_is_told_and_signs_out(
    door: Door, page: Page, passkey: VirtualPasskey, started: Callable[..., str], library: str
) -> None:
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    client_id, secret = door.register(origin, callback="/callback", backchannel="/backchannel", goodbye="/goodbye")
    environment = {
        "PATH": os.environ["PATH"],
        "ISSUER": door.issuer,
        "CLIENT_ID": client_id,
        "CLIENT_SECRET": secret,
        "PORT": str(port),
    }
    project = install(Path(__file__).parent / "node")
    command = [str(node()), "rp.mjs", library]
    started(command, f"{origin}/told", door.folder / "rp.log", cwd=project, env=environment)
    sign_in(door, page, passkey, f"{origin}/login")
    found = shown(page)
    arta = door.world.person("arta")
    assert found["who"] == {"sub": arta, "name": "Arta Krasniqi"}
    assert (found["claims"]["sub"], found["claims"]["acr"]) == (arta, "phrh")
    assert found["rotated"] is True
    assert found["asked"]["active"] is True
    assert found["asked"]["authorization_details"][0]["grant"] == door.grant.id
    sign_out(door, page, f"{origin}/logout")
    assert shown(page) == {"gone": True, "state": "away"}
    assert httpx2.get(f"{origin}/active").json() == {"active": False}
    door.tell()
    (told,) = httpx2.get(f"{origin}/told").json()
    assert (told["sid"], told["sub"]) == (found["claims"]["sid"], arta)


# ---------------------------------------------------------------- Authlib


def authlib_application(door: Door, origin: str, client_id: str, secret: str, told: list[dict[str, Any]]) -> Flask:
    """Make an application as Authlib's documentation shows it."""
    app = Flask("authlib_application")
    app.secret_key = "only-for-this-test"
    oauth = OAuth(app)
    oauth.register(
        "jit",
        client_id=client_id,
        client_secret=secret,
        server_metadata_url=f"{door.issuer}/.well-known/openid-configuration",
        client_kwargs={"scope": "openid profile", "code_challenge_method": "S256"},
    )
    kept: dict[str, Any] = {}

    @app.get("/login")
    def login() -> Any:
        return oauth.jit.authorize_redirect(url_for("callback", _external=True))

    @app.get("/callback")
    def callback() -> Any:
        token = oauth.jit.authorize_access_token()
        who = oauth.jit.userinfo(token=token)
        with oauth.jit._get_oauth_client() as session:
            renewed = session.refresh_token(
                oauth.jit.load_server_metadata()["token_endpoint"], refresh_token=token["refresh_token"]
            )
        kept["id_token"] = token["id_token"]
        return {
            "who": dict(who),
            "claims": dict(token["userinfo"]),
            "rotated": renewed["refresh_token"] != token["refresh_token"],
        }

    @app.get("/logout")
    def logout() -> Any:
        return oauth.jit.logout_redirect(
            post_logout_redirect_uri=f"{origin}/goodbye", id_token_hint=kept["id_token"], state="away"
        )

    @app.get("/goodbye")
    def goodbye() -> Any:
        return {"gone": True, "state": request.args["state"]}

    @app.post("/backchannel")
    def backchannel() -> Any:
        keys = KeySet.import_key_set(httpx2.get(oauth.jit.load_server_metadata()["jwks_uri"]).json())
        read = jwt.decode(request.form["logout_token"], keys, algorithms=["ES256"])
        assert read.header["typ"] == "logout+jwt"
        jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": door.issuer}, aud={"essential": True, "value": client_id}
        ).validate(read.claims)
        told.append(dict(read.claims))
        return "", 204

    return app


@pytest.mark.covers("R33", "R38", "R40")
def test_authlib_as_a_client_signs_in_renews_is_told_and_signs_out(
    door: Door, page: Page, passkey: VirtualPasskey
) -> None:
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    client_id, secret = door.register(origin, callback="/callback", backchannel="/backchannel", goodbye="/goodbye")
    told: list[dict[str, Any]] = []
    serving = Serving(authlib_application(door, origin, client_id, secret, told), port)
    try:
        sign_in(door, page, passkey, f"{origin}/login")
        found = shown(page)
        arta = door.world.person("arta")
        assert found["who"] == {"sub": arta, "name": "Arta Krasniqi"}
        assert (found["claims"]["sub"], found["claims"]["acr"], found["rotated"]) == (arta, "phrh", True)
        door.hand_back()
        assert [claims["sid"] for claims in told] == [found["claims"]["sid"]]
        sign_out(door, page, f"{origin}/logout")
        assert shown(page) == {"gone": True, "state": "away"}
    finally:
        serving.stop()


# ---------------------------------------------------------------- Apache


def apache_config(door: Door, port: int, folder: Path, client_id: str, secret: str) -> str:
    """Return a whole configuration: everything under / needs a sign-in."""
    wanted = ("mpm_event", "authn_core", "authz_core", "authz_user", "mime", "dir", "auth_openidc")
    modules = "\n".join(
        f"LoadModule {name}_module {MODULES / f'mod_{name}.so'}"
        for name in wanted
        if (MODULES / f"mod_{name}.so").exists()
    )
    return f"""
ServerRoot {folder}
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile {folder}/apache.pid
DefaultRuntimeDir {folder}
Mutex file:{folder}
ErrorLog /dev/stderr
LogLevel warn
{modules}
User www-data
Group www-data
TypesConfig /etc/mime.types
DocumentRoot {folder}/www
DirectoryIndex index.html
OIDCProviderMetadataURL {door.issuer}/.well-known/openid-configuration
OIDCClientID {client_id}
OIDCClientSecret {secret}
OIDCProviderTokenEndpointAuth client_secret_basic
OIDCRedirectURI http://127.0.0.1:{port}/redirect_uri
OIDCCryptoPassphrase only-for-this-test
OIDCScope "openid profile"
OIDCPKCEMethod S256
OIDCRemoteUserClaim sub
OIDCInfoHook userinfo id_token access_token refresh_token session
OIDCRedirectURLsAllowed ^http://127\\.0\\.0\\.1:{port}/
OIDCHTTPTimeoutLong 30
<Location />
  AuthType openid-connect
  Require valid-user
</Location>
<Location /goodbye.html>
  AuthType None
  Require all granted
</Location>
"""


@pytest.mark.covers("R33", "R38", "R40")
def test_apache_signs_in_renews_is_told_and_signs_out(
    door: Door, page: Page, passkey: VirtualPasskey, started: Callable[..., str]
) -> None:
    assert APACHE.exists(), "apt-get install apache2 libapache2-mod-auth-openidc"
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    client_id, secret = door.register(
        origin, callback="/redirect_uri", backchannel="/redirect_uri?logout=backchannel", goodbye="/goodbye.html"
    )
    folder = door.folder / "apache"
    (folder / "www").mkdir(parents=True)
    (folder / "www" / "index.html").write_text("You are inside.")
    (folder / "www" / "goodbye.html").write_text("You have left.")
    (folder / "httpd.conf").write_text(apache_config(door, port, folder, client_id, secret))
    _open_to_all(folder)
    command = [str(APACHE), "-X", "-d", str(folder), "-f", str(folder / "httpd.conf")]
    started(command, f"{origin}/goodbye.html", door.folder / "apache.log")
    sign_in(door, page, passkey, f"{origin}/")
    page.get_by_text("You are inside.").wait_for()
    page.goto(f"{origin}/redirect_uri?info=json")
    info = shown(page)
    assert info["userinfo"] == {"sub": door.world.person("arta"), "name": "Arta Krasniqi"}
    assert info["id_token"]["acr"] == "phrh"
    page.goto(f"{origin}/redirect_uri?refresh={origin}/&access_token={info['access_token']}")
    page.get_by_text("You are inside.").wait_for()
    page.goto(f"{origin}/redirect_uri?info=json")
    renewed = shown(page)
    assert renewed["refresh_token"] != info["refresh_token"]
    sign_out(door, page, f"{origin}/redirect_uri?logout={origin}/goodbye.html")
    page.get_by_text("You have left.").wait_for()
    page.goto(f"{origin}/")
    page.wait_for_url(lambda url: url.startswith(door.issuer))


def _open_to_all(folder: Path) -> None:
    """Let the server's own user read what pytest keeps for root."""
    if os.geteuid() != 0:
        return
    shutil.chown(folder, "www-data", "www-data")
    open_the_way(folder)
    for path in folder.rglob("*"):
        path.chmod(path.stat().st_mode | 0o055)
