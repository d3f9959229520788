"""Where does the demo live? A throw-away folder with settings, keys, database and mails, and the two servers over it."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jitaccess.broker.clients import add_client
from jitaccess.broker.policies import propose
from jitaccess.clock import SystemClock
from jitaccess.connectors import config_models
from jitaccess.demo.ending import listening
from jitaccess.demo.seed import Seeded, read_policies, seed
from jitaccess.demo.servers import Server, broker_server, free_port, treasury_server
from jitaccess.domain.values import LOCAL
from jitaccess.errors import JitError, Kind
from jitaccess.identity.enrolment import create_link
from jitaccess.identity.people import add_account
from jitaccess.identity.replacing import was_enrolled
from jitaccess.identity.site import Site
from jitaccess.policy.evaluate import PolicySet
from jitaccess.policy.load import load
from jitaccess.sdk import ClientSecret
from jitaccess.settings import Settings
from jitaccess.settings import load as load_settings
from jitaccess.store.db import Database
from jitaccess.tokens.keys import Keyring, create_wrapping_key

ROOT = Path(__file__).resolve().parents[2]
TREASURY = "treasury"
SECOND_CALLBACK = "/reports/callback"


@dataclass(frozen=True, slots=True)
class Extra:
    """What a stage has beside the shipped policies: policy text (file name -> YAML), and secrets of the broker's for targets."""

    policies: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)


NOTHING_MORE = Extra()


@dataclass(slots=True)
class Stage:
    """Everything that the demo needs, until `clear`."""

    folder: Path
    settings: Settings
    config: Path
    seeded: Seeded
    accounts: Mapping[str, str]
    """Who enrols in a browser with which account."""
    broker: Server
    treasury: Server
    treasury_origin: str
    second: ClientSecret
    """A second client of the treasury's: whoever plays an application with a token in its hand."""
    more: Extra
    _keyring: Keyring
    _site: Site

    @property
    def origin(self) -> str:
        """Return the broker's origin."""
        return self.settings.server.public_url

    @property
    def database(self) -> Path:
        """Return the SQLite file, for whoever plays the database's owner."""
        return self.folder / "jitaccess.db"

    def links(self, keys: tuple[str, ...]) -> Mapping[str, str]:
        """Make fresh enrolment links for those who have no passkey yet; they live ten minutes."""
        db = Database(self.settings.store.url, SystemClock(), self._keyring.seals)
        try:
            with db.begin(LOCAL) as tx:
                return {
                    key: create_link(tx, self._site, account_id=self.accounts[key], by="demo")
                    for key in keys
                    if not was_enrolled(tx, self.accounts[key])
                }
        finally:
            db.close()

    def candidate(self, without: str) -> str:
        """Store the policy without one of its rules as a proposal; return its id."""
        document: dict[str, Any] = dict(shipped_policies(self.treasury_origin, self.more.policies).document)
        rules = {name: rule for name, rule in document["rules"].items() if name != without}
        db = Database(self.settings.store.url, SystemClock(), self._keyring.seals)
        try:
            with db.begin(LOCAL) as tx:
                return propose(tx, PolicySet.from_document({**document, "rules": rules}), by="demo").id
        finally:
            db.close()

    def start(self) -> None:
        """Start both servers."""
        self.broker.start()
        self.treasury.start()

    def clear(self) -> None:
        """Stop the servers and remove the folder."""
        self.treasury.stop()
        self.broker.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def shipped_policies(treasury_origin: str, more: Mapping[str, str]) -> PolicySet:
    """Load the shipped policies with the address that the sample treasury has here, and more beside them."""
    folder = ROOT / "policies"
    if not folder.is_dir():
        raise JitError(Kind.CONFIGURATION, "The demo runs from a clone of the repository: policies/ is not here.")
    if treasury_origin == "http://127.0.0.1:8001" and not more:
        return read_policies(folder)
    texts = {file.name: file.read_text() for file in sorted(folder.glob("*.yaml"))}
    moved = {name: text.replace("http://127.0.0.1:8001", treasury_origin) for name, text in texts.items()}
    return load({**moved, **more}, register=None, connectors=config_models())


@contextmanager
def staged(*, enrolled: frozenset[str], port: int, treasury_port: int, more: Extra = NOTHING_MORE) -> Iterator[Stage]:
    """Build a stage and start it while the block runs; nothing of it is left, whatever ends the block, signals included."""
    with listening() as ending:
        stage: Stage | None = None
        try:
            with ending.undisturbed():
                stage = build(enrolled=enrolled, port=port, treasury_port=treasury_port, more=more)
                stage.start()
            yield stage
        finally:
            with ending.undisturbed():
                if stage is not None:
                    stage.clear()


def build(
    *,
    enrolled: frozenset[str],
    port: int = 8000,
    treasury_port: int = 8001,
    database: str | None = None,
    more: Extra = NOTHING_MORE,
) -> Stage:
    """Make the folder, the instance, the cast and the treasury's client; start nothing. `database`: an empty one elsewhere."""
    folder = Path(tempfile.mkdtemp(prefix="jitaccess-demo-"))
    try:
        return _build(folder, enrolled, port=port, treasury_port=treasury_port, database=database, more=more)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _build(
    folder: Path, enrolled: frozenset[str], *, port: int, treasury_port: int, database: str | None, more: Extra
) -> Stage:
    port, treasury_port = free_port(port), free_port(treasury_port)
    origin, treasury_origin = f"http://localhost:{port}", f"http://127.0.0.1:{treasury_port}"
    config = folder / "jitaccess.toml"
    own = f"sqlite:///{folder}/jitaccess.db"
    config.write_text(
        f'[server]\npublic_url = "{origin}"\nport = {port}\n\n[store]\nurl = "{database or own}"\n\n'
        f'[keys]\nwrapping_key_file = "{folder}/wrapping.key"\n\n[log]\norigin = "demo.localhost/jitaccess"\n\n'
        f'[mail]\ntransport = "folder"\nfolder = "{folder}/mail"\n\n[demo]\nenabled = true\n\n'
        f'[targets]\nsecrets_dir = "{folder}/secrets"\n\n'
        "[limits]\nfailed_sign_ins_per_address_minute = 600\n\n"
        "[sessions]\nnew_account_s = 0\n"  # everybody was put on the register a moment ago, and shall act at once
    )
    settings = load_settings(config)
    settings.targets.secrets_dir.mkdir(mode=0o700)
    for name, text in more.secrets.items():
        kept = settings.targets.secrets_dir / name
        kept.touch(mode=0o600)
        kept.write_text(text)
    wrapping_key = create_wrapping_key(settings.keys.wrapping_key_file)
    policy = shipped_policies(treasury_origin, more.policies)
    clock = SystemClock()
    seeded = seed(settings, clock, wrapping_key, policy, enrolled=enrolled)
    keyring = Keyring.load(settings.store.url, wrapping_key)
    db = Database(settings.store.url, clock, keyring.seals)
    with db.begin(LOCAL) as tx:
        client, secret = add_client(
            tx, target=TREASURY, name="Treasury payments", redirect_uris=[f"{treasury_origin}/callback"]
        )
        # Genesis gave the founder software passkeys. Who plays him in a browser has an account of its own: rules count the person.
        browsers = {"agim": add_account(tx, person_id=seeded.people["agim"], label="agim.b@mof.example").id}
        second, second_secret = add_client(
            tx, target=TREASURY, name="Treasury reports", redirect_uris=[f"{treasury_origin}{SECOND_CALLBACK}"]
        )
    db.close()
    site = Site(
        instance_id="demo",
        log_origin=settings.log.origin,
        rp_id=settings.rp_id,
        origin=origin,
        name="jitaccess",
        pilot=False,
        sessions=settings.sessions,
    )
    environment = {
        "TREASURY_ISSUER": origin,
        "TREASURY_CLIENT_ID": client.id,
        "TREASURY_CLIENT_SECRET": secret or "",
        "TREASURY_PORT": str(treasury_port),
    }
    (folder / "treasury.json").write_text(json.dumps({"client_id": client.id}))
    return Stage(
        folder,
        settings,
        config,
        seeded,
        {**seeded.accounts, **browsers},
        broker_server(folder, config, origin),
        treasury_server(folder, treasury_origin, environment),
        treasury_origin,
        ClientSecret(second.id, second_secret or ""),
        more,
        keyring,
        site,
    )
