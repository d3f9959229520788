"""How is this broker set up? One section a part; the only reader of the environment.

Defaults < TOML file < environment `JIT_<SECTION>__<KEY>` < files in the secrets directory. An unknown key is an error, and
`check()` refuses what would be unsafe outside localhost (R73). `docs/reference/settings.md` lists every key.
"""

import os
import tomllib
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, IPvAnyNetwork, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from jitaccess.errors import JitError, Kind
from jitaccess.language import known_zone


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Server(_Section):
    """Where people reach the broker and where it listens."""

    public_url: str = "http://localhost:8000"
    """The one origin of pages, passkeys, links and tokens: scheme, host and port, nothing else."""
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    threads: int = Field(default=8, ge=1, le=64)
    workers: int = Field(default=1, ge=1, le=16)
    """Processes; SQLite has one writing process and refuses more."""
    max_body_bytes: int = Field(default=256 * 1024, ge=1024)
    trusted_proxies: tuple[str, ...] = ()
    """Addresses of proxies whose X-Forwarded-For counts; empty means none."""


class Store(_Section):
    """The database and the folder for what must not be in it."""

    url: str = "sqlite:///var/jitaccess.db"
    pool_size: int = Field(default=8, ge=1, le=64)


class Keys(_Section):
    """The key outside the database that wraps all private keys (R35)."""

    wrapping_key_file: Path = Path("var/wrapping.key")
    """32 random bytes, mode 0600; `jitaccess init` writes it."""
    token_overlap_s: int = Field(default=3600, ge=960)
    """How long a rotated token key still verifies; longer than any token lives."""


class Sessions(_Section):
    """Time-outs of R14; they may be shortened, never lengthened."""

    staff_max_s: int = Field(default=24 * 3600, ge=60, le=24 * 3600)
    staff_idle_s: int = Field(default=3600, ge=60, le=3600)
    strict_max_s: int = Field(default=12 * 3600, ge=60, le=12 * 3600)
    """Approvers and admins."""
    strict_idle_s: int = Field(default=900, ge=60, le=900)
    enrolment_s: int = Field(default=600, ge=60, le=600)
    challenge_s: int = Field(default=300, ge=30, le=300)
    cooling_off_s: int = Field(default=24 * 3600, ge=3600, le=7 * 24 * 3600)
    """How long a replacement of somebody's passkeys, signed by administrators, waits and can be stopped."""
    new_account_s: int = Field(default=24 * 3600, ge=0, le=30 * 24 * 3600)
    """How long who was put on the register, given an account or switched on again approves nothing and asks for nothing of high risk
    (R10); not in a pilot. 0: for no time, as in the demo."""


class Mail(_Section):
    """How notices leave."""

    transport: str = Field(default="none", pattern="^(none|smtp|folder)$")
    host: str = "127.0.0.1"
    port: int = Field(default=25, ge=1, le=65535)
    starttls: bool = True
    username: str = ""
    password: SecretStr = SecretStr("")
    sender: str = "jitaccess@localhost"
    folder: Path = Path("var/mail")
    """For `transport = "folder"`: each mail becomes a file; the demo's mail-catcher page reads it."""


class Channel(_Section):
    """One chat or SMS gateway (an Apprise address), or one signed webhook."""

    kind: str = Field(default="apprise", pattern="^(apprise|webhook)$")
    url: SecretStr
    """Apprise: where it holds {to}, the channel is personal. Webhook: https, or http on this machine."""
    secret: SecretStr = SecretStr("")
    """A webhook's: whsec_ and the base64 of 24 to 64 random bytes."""
    kinds: tuple[str, ...] = ()
    """Which notices go here; empty: all to a webhook or a personal channel, wanted approvals and alarms to a shared one."""
    language: str = Field(default="en", pattern="^(en|sq|sr)$")
    """What a shared channel is told in."""


class Notify(_Section):
    """Further ways for notices beside mail. Addresses hold secrets: keep this section in the secrets directory."""

    channels: dict[str, Channel] = Field(default_factory=dict)


class Language(_Section):
    """How the broker speaks to people who chose nothing themselves."""

    default: str = Field(default="en", pattern="^(en|sq|sr)$")
    """Where neither the person nor the browser asks for one of the languages."""
    zone: str = "Europe/Belgrade"
    """Time zone in which times are shown; there is no Europe/Pristina, its clocks are these."""


class Log(_Section):
    """The audit log."""

    origin: str = "localhost/jitaccess"
    """The C2SP log origin, fixed at genesis."""
    checkpoint_every_s: float = Field(default=1.0, gt=0, le=60)
    publish_folder: Path | None = None
    """Signed checkpoints are copied here at least every 60 s while there is work; mount it from another host."""


class Sweep(_Section):
    """The heartbeat that ends what is due."""

    every_s: float = Field(default=0.5, gt=0, le=5)
    batch: int = Field(default=500, ge=1, le=5000)
    embedded: bool = True
    """Run in the serving process; false where `jitaccess worker` runs beside it."""
    jump_s: int = Field(default=120, ge=10)
    """A difference between wall and monotonic time above this stops issuing (R62)."""


class Outbound(_Section):
    """Where the broker may call targets' own endpoints."""

    networks: tuple[str, ...] = ()
    """Private networks (CIDR) that logout notices and webhooks may go to; public addresses always may, other private ones never."""


class ForwardAuth(_Section):
    """Reverse proxies that ask on behalf of applications behind them (R41)."""

    proxies: tuple[IPvAnyNetwork, ...] = (ip_network("127.0.0.1/32"), ip_network("::1/128"))
    """Networks (CIDR) from which the question is heard; everybody else gets 403. Behind `server.trusted_proxies` the address that they name
    counts."""


class Limits(_Section):
    """Rates and sizes (R26, R66)."""

    requests_per_person_hour: int = Field(default=30, ge=1)
    open_per_requester: int = Field(default=20, ge=1)
    """Requests of one person that wait at the same time."""
    open_per_target: int = Field(default=200, ge=1)
    """Requests for one target that wait at the same time."""
    open_per_approver: int = Field(default=50, ge=1)
    """Requests that one approver was asked about and that still wait; with more, a notice waits for an hour at most."""
    messages_per_approver_hour: int = Field(default=30, ge=1)
    """Requests, or grants that may be stopped, that one person is told of within an hour; the notices of more wait for an hour at most."""
    messages_per_requester_hour: int = Field(default=5, ge=1)
    """Requests of one requester that one approver is told of at once within an hour; the notices of more wait for an hour at most."""
    veto_owners_told: int = Field(default=12, ge=1)
    """Of those who may stop a grant as staff of the system's owner, how many are told of it; a lot draws them."""
    denials_before_hold: int = Field(default=5, ge=2)
    """Refusals within 24 hours, by at least two different approvers, that put a requester on hold."""
    hurried_below_s: int = Field(default=5, ge=1, le=600)
    """An approval given in less time after its page was opened counts as hurried."""
    hurried_percent: int = Field(default=50, ge=1, le=100)
    """Share of hurried ones among an approver's last 20 approvals at which administrators get a note."""
    hurried_least: int = Field(default=10, ge=1, le=20)
    """Approvals below which nothing is said of an approver's pace."""
    failed_sign_ins_per_address_minute: int = Field(default=60, ge=1)
    """Refused attempts to sign in or to use a link, after which an address waits; good ones are not counted."""
    ceremonies_per_browser_minute: int = Field(default=60, ge=1)
    """Ceremonies that one browser may begin without a session."""
    calls_per_person_minute: int = Field(default=600, ge=10)
    """Requests of one person to one process, whatever they are for."""
    calls_per_address_minute: int = Field(default=1200, ge=10)
    """Requests without a session, of one address to one process."""
    target_calls_per_address_minute: int = Field(default=600_000, ge=60)
    """Requests of targets' programs (token, introspection, revocation, forward-auth; status lists, keys, metadata), of one address to one
    process."""
    reason_chars: int = Field(default=500, ge=20, le=2000)


class Targets(_Section):
    """The systems on which credentials are made."""

    secrets_dir: Path = Path("var/targets")
    """One file for each of the broker's own secrets there, mode 0600, named in the policy; also written when they are rotated."""
    at_once: int = Field(default=4, ge=1, le=64)
    """Credentials being made on one target at the same time; more wait a moment and are then refused (bulkhead)."""


class Demo(_Section):
    """Switches that exist for the demo and are refused on any host but localhost."""

    enabled: bool = False


class Fault(_Section):
    """Where the process kills itself, for fault tests; refused on any host but localhost."""

    kill_at: str = Field(default="", pattern=r"^$|^(before|after)-commit:[1-9][0-9]*$")
    """`before-commit:3` = SIGKILL to itself just before its third commit."""


class Settings(BaseSettings):
    """All sections."""

    model_config = SettingsConfigDict(env_prefix="JIT_", env_nested_delimiter="__", extra="forbid", frozen=True)

    server: Server = Server()
    store: Store = Store()
    keys: Keys = Keys()
    sessions: Sessions = Sessions()
    mail: Mail = Mail()
    notify: Notify = Notify()
    language: Language = Language()
    log: Log = Log()
    sweep: Sweep = Sweep()
    limits: Limits = Limits()
    targets: Targets = Targets()
    outbound: Outbound = Outbound()
    forward_auth: ForwardAuth = ForwardAuth()
    demo: Demo = Demo()
    fault: Fault = Fault()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order: secrets directory, environment, then what `load` read from TOML."""
        return file_secret_settings, env_settings, init_settings

    @property
    def rp_id(self) -> str:
        """Return the WebAuthn RP ID: the host of the public URL."""
        return urlsplit(self.server.public_url).hostname or ""


ENV_CONFIG = "JIT_CONFIG"
ENV_SECRETS = "JIT_SECRETS_DIR"
_NOT_SETTINGS = frozenset({ENV_CONFIG, ENV_SECRETS, "JIT_VENV"})


def load(path: Path | None = None) -> Settings:
    """Read settings from TOML (argument, else $JIT_CONFIG, else ./jitaccess.toml if present), environment and secrets.

    Raises CONFIGURATION with a sentence that names the key.
    """
    named = path or (Path(os.environ[ENV_CONFIG]) if ENV_CONFIG in os.environ else None)
    file = named or Path("jitaccess.toml")
    values: dict[str, object] = {}
    if named is not None or file.exists():
        try:
            values = tomllib.loads(file.read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise JitError(Kind.CONFIGURATION, f"Cannot read the settings file {file}: {error}.") from error
    known = {name.upper() for name in Settings.model_fields}
    for variable in os.environ:
        if variable.startswith("JIT_") and variable not in _NOT_SETTINGS:
            section = variable.removeprefix("JIT_").split("__")[0]
            if section not in known or "__" not in variable:
                raise JitError(Kind.CONFIGURATION, f"The environment variable {variable} is not a known setting.")
    secrets_dir = os.environ.get(ENV_SECRETS)
    try:
        settings = Settings(**{"_secrets_dir": secrets_dir, **values})  # type: ignore[arg-type] # pydantic validates it
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise JitError(Kind.CONFIGURATION, f"Setting {name}: {first['msg']}.") from error
    check(settings)
    return settings


def check(settings: Settings) -> None:
    """Refuse settings that would be unsafe; raises CONFIGURATION."""
    url = urlsplit(settings.server.public_url)
    local = url.hostname == "localhost" or (url.hostname or "").endswith(".localhost")
    if url.scheme not in ("https", "http") or not url.hostname or url.path or url.query or url.fragment or url.username:
        raise JitError(Kind.CONFIGURATION, "server.public_url must be scheme, host and port only, without a path.")
    if url.scheme == "http" and not local:
        raise JitError(Kind.CONFIGURATION, "server.public_url must be https on every host but localhost.")
    if (settings.demo.enabled or settings.fault.kill_at) and not local:
        raise JitError(Kind.CONFIGURATION, "demo.enabled and fault.kill_at are refused on every host but localhost.")
    if not known_zone(settings.language.zone):
        raise JitError(
            Kind.CONFIGURATION, "language.zone is not a time zone of this machine: write one like Europe/Belgrade."
        )
    if settings.store.url.startswith("sqlite") and settings.server.workers > 1:
        raise JitError(
            Kind.CONFIGURATION, "SQLite has one writing process: set server.workers to 1, or use PostgreSQL."
        )


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a child process: this one's, without settings of ours, plus `extra`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JIT_") or name == "JIT_VENV"}
    return kept | dict(extra)
