"""Webhook: an owner's own provisioner makes and ends the accounts; the broker tells it what, signed (Standard Webhooks), and believes
its own word alone.

Each effect and verb is one POST under an id that stays the same at every attempt. `absent` and `locked` count only when the provisioner
says so in an answer that names the id it answers, and says it again when it is asked afterwards. The address is in the signed policy
and under the SSRF guard: private networks only where the policy names them, no redirects, TLS against configured authorities, bounds
of size and time (ADR 29). docs/reference/provisioner.md is the other side of this file; its schema is made from the models below.
"""

import hashlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from jitaccess.connectors.contract import (
    Account,
    CallFailed,
    ConnectorKind,
    Credential,
    Effect,
    EnforcesExpiry,
    Inventory,
    KindConfig,
    LeaseSpec,
    NotDone,
    Proofs,
    Quarantined,
    Secret,
    SecretName,
    Surroundings,
    Unreachable,
    is_own_account,
)
from jitaccess.errors import JitError
from jitaccess.outbound import guard, webhooks
from jitaccess.outbound.guard import Answer, Bounds, NotDelivered
from jitaccess.outbound.webhooks import Scheme, Signer
from jitaccess.proof.canonical import JsonValue

AT_ONCE = 8
"""Calls of one batch that run beside each other."""
ANSWER_BYTES = 64 * 1024
INVENTORY_BYTES = 8 * 1024 * 1024
MAX_ACCOUNTS = 20_000
STALE = timedelta(hours=1)
"""How old the message is with which `probe` tries the provisioner; the standard asks receivers to refuse after five minutes."""
OK, UNAUTHORIZED = 200, 401
PLACE = "{username}"
Grant = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]([\x20-\x7e]{0,198}[\x21-\x7e])?$")]
Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Visible = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,200}$")]
Line = Annotated[str, StringConstraints(max_length=300, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Meaning(KindConfig):
    """What an entitlement is for the provisioner: words that it understands."""

    grants: list[Grant] = Field(min_length=1, max_length=50)


class WebhookConfig(KindConfig):
    """Where the provisioner is, how it knows the broker, what each entitlement means to it."""

    kind: Literal["webhook"]
    url: Annotated[str, StringConstraints(max_length=500, pattern=r"^https?://[\x21-\x7e]+$")]
    """https; http only for this very machine."""
    networks: list[Annotated[str, StringConstraints(max_length=50)]] = Field(default_factory=list, max_length=20)
    """Private networks (CIDR) in which the address may lie; public ones it always may."""
    root_ca: str = Field(default="", max_length=500)
    """File with the certificate authorities that may sign the server's certificate; empty: those of the system."""
    signature: Literal["hmac", "ed25519"] = "hmac"
    """`ed25519`: the provisioner holds a public key only."""
    secret: SecretName
    timeout_s: int = Field(default=10, ge=1, le=15)
    ends_by_itself: Literal["nothing", "logins", "logins_and_sessions"] = "nothing"
    """What the provisioner ends at `ends_at` without being told."""
    command: str = Field(default="", max_length=500)
    """What people are shown to paste; `{username}` is put in."""
    entitlements: dict[str, Meaning]

    @model_validator(mode="after")
    def _checked(self) -> "WebhookConfig":
        try:
            webhooks.check_address(self.url)
            webhooks.reach_of(self.url, self.networks)
        except JitError as error:
            raise ValueError(str(error)) from None
        if "{" in self.command.replace(PLACE, "") or "\n" in self.command:
            raise ValueError("`command` is one line, and {username} all that is put in")
        return self


# ---------------------------------------------------------------- what is said


class Message(BaseModel):
    """Base of everything that passes between the two; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Lease(Message):
    """What is to be made, or was."""

    account: Visible = Field(description="`jit-` and 26 characters: never used before, and never again.")
    entitlement: str
    grants: list[Grant] = Field(description="What the entitlement is, in words that the policy agreed with you.")
    person: str = Field(description="An id that is the same for all leases of a person; it says nothing else.")
    ends_at: AwareDatetime = Field(description="When the account must let nobody in any more, told or not.")


class Apply(Message):
    """Make the account. Not after the deadline by your own clock, and never under a name that is taken."""

    type: Literal["access.apply"] = "access.apply"
    lease: Lease
    deadline: AwareDatetime


class Bury(Message):
    """Take the name, locked and without rights, unless it is there: an `apply` of which nobody heard must not come true later."""

    type: Literal["access.bury"] = "access.bury"
    lease: Lease


class Cut(Message):
    """Lock the account and end its sessions."""

    type: Literal["access.cut"] = "access.cut"
    lease: Lease


class Clean(Message):
    """Take away what the person left behind that could act by itself, then the account."""

    type: Literal["access.clean"] = "access.clean"
    lease: Lease


class Read(Message):
    """Look at the account, and change nothing."""

    type: Literal["access.read"] = "access.read"
    account: Visible


class Observe(Message):
    """List every account."""

    type: Literal["access.observe"] = "access.observe"


class Quarantine(Message):
    """Lock an account that nothing explains and end its sessions; `remove`: delete it."""

    type: Literal["access.quarantine"] = "access.quarantine"
    account: str = Field(max_length=255)
    remove: bool


class Rotate(Message):
    """From now on check with this: `whsec_` or `whpk_` and base64. Signed with the old key and the new one."""

    type: Literal["access.rotate"] = "access.rotate"
    check_with: str


class Probe(Message):
    """Say what is wrong, or too mighty, about what you can do."""

    type: Literal["access.probe"] = "access.probe"


class Said(Message):
    """Base of the answers."""

    answers: str = Field(max_length=200, description="The webhook-id of the message that this answers.")


class Made(Said):
    """The account is there, and nobody else was told the secret."""

    result: Literal["made"]
    id: Visible = Field(description="Your own id of it, for the record.")
    username: Visible
    secret: Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]{1,4000}$")]
    note: Line = ""


class NotMade(Said):
    """Nothing was made and nothing will be; jitaccess believes it when you then say that the account is absent."""

    result: Literal["not_made"]
    reason: Word = Field(description="A short word for administrators, for instance `too_late` or `name_taken`.")


class State(Said):
    """How the account is now, after what was asked."""

    state: Literal["active", "locked", "absent"]
    sessions: int = Field(ge=0, description="Sessions that could still do anything.")


class Listed(Message):
    """One account."""

    name: str = Field(min_length=1, max_length=255)
    rights: list[Line] = Field(default_factory=list, max_length=1_000)
    sessions: int = Field(default=0, ge=0)
    enabled: bool = True
    expires_at: AwareDatetime | None = None
    fingerprint: str = Field(default="", max_length=200, description="Changes when its password or key changes.")
    owns: list[Line] = Field(default_factory=list, max_length=1_000)


class All(Said):
    """Every account, and what of them is told."""

    accounts: list[Listed] = Field(max_length=MAX_ACCOUNTS)
    coverage: list[Word] = Field(
        max_length=50, description="`accounts`, `grants`, `sessions`, `expiry`, `keys`: what is told in full."
    )


class Handled(Said):
    """What came of it; `statement` says what the owner still has to do."""

    done: bool
    statement: Line = ""


class Rotated(Said):
    """The new key is in force, and kept."""

    rotated: Literal[True]


class Findings(Said):
    """What is wrong; empty when all is well."""

    findings: list[Line] = Field(max_length=100)


ANSWERS: Mapping[type[Message], tuple[type[Said], ...]] = {
    Apply: (Made, NotMade),
    Bury: (State,),
    Cut: (State,),
    Clean: (State,),
    Read: (State,),
    Observe: (All,),
    Quarantine: (Handled,),
    Rotate: (Rotated,),
    Probe: (Findings,),
}
"""What may answer what."""
S = TypeVar("S", bound=Said)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of all messages and answers, as docs/reference/provisioner.schema.json has it."""
    answers = dict.fromkeys(answer for found in ANSWERS.values() for answer in found)
    asked: list[tuple[str, Literal["validation", "serialization"], TypeAdapter[Any]]] = [
        (model.__name__, "serialization", TypeAdapter(model)) for model in ANSWERS
    ]
    asked += [(model.__name__, "validation", TypeAdapter(model)) for model in answers]
    _, definitions = TypeAdapter.json_schemas(asked, title="What jitaccess says to a provisioner, and what it answers")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **definitions}


def read_answer(text: bytes, expected: tuple[type[S], ...]) -> S:
    """Return an answer as one of these models; strict: no unknown or repeated key, no number in quotes. Raises CallFailed."""
    try:
        raw = json.loads(text, object_pairs_hook=_once)
        for model in expected:
            try:
                # As JSON again, because strict mode takes times and lists from JSON alone.
                return model.model_validate_json(json.dumps(raw), strict=True)
            except ValidationError:
                continue
    except (ValueError, RecursionError):
        raise CallFailed("answer_not_json") from None
    raise CallFailed("answer_not_as_agreed")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


# ---------------------------------------------------------------- the connector


class WebhookConnector:
    """One provisioner."""

    def __init__(self, config: WebhookConfig, around: Surroundings) -> None:
        self._config = config
        self._around = around
        self._reach = webhooks.reach_of(config.url, config.networks)

    # -- speaking

    def _signers(self) -> list[Signer]:
        return [self._signer(secret) for secret in self._around.secrets(self._config.secret)]

    def _signer(self, secret: Secret) -> Signer:
        try:
            return Signer(Scheme(self._config.signature), secret.reveal())
        except ValueError as error:
            raise Unreachable(f"the secret {self._config.secret} cannot be used: {error}") from None

    def _send(
        self,
        message: Message,
        message_id: str,
        signers: Sequence[Signer],
        *,
        at: datetime | None = None,
        most: int = ANSWER_BYTES,
    ) -> Answer:
        """Send one message; raises NotDelivered."""
        body = webhooks.encoded(message.model_dump(mode="json"))
        sent_at = int((at or self._around.now()).timestamp())
        headers = webhooks.headers_of(signers, message_id, sent_at, body)
        wait = float(self._config.timeout_s)
        bounds = Bounds(wait_s=wait, whole_s=wait, answer_bytes=most, root_ca=self._config.root_ca)
        headers |= {"Idempotency-Key": f'"{message_id}"', "Accept": "application/json"}
        return guard.call(self._config.url, body, headers, self._reach, bounds)

    def _ask(
        self,
        message: Message,
        message_id: str,
        *expected: type[S],
        signers: Sequence[Signer] | None = None,
        most: int = ANSWER_BYTES,
    ) -> S:
        """Ask, and return an answer that is as it must be. Raises Unreachable when nothing left, CallFailed for anything else."""
        try:
            answer = self._send(message, message_id, signers or self._signers(), most=most)
        except NotDelivered as error:
            if not error.begun:
                raise Unreachable(f"the provisioner cannot be reached ({error})") from error
            raise CallFailed(str(error)) from error
        if answer.status != OK:
            raise CallFailed(f"status_{answer.status}")
        if answer.content_type != "application/json":
            raise CallFailed("answer_not_json")
        if len(answer.unverified_body) > most:
            raise CallFailed("answer_too_large")
        said = read_answer(answer.unverified_body, expected)
        if said.answers != message_id:
            raise CallFailed("answer_to_something_else")
        return said

    def _look(self, message: Message, verb: str, expected: type[S], *, most: int = ANSWER_BYTES) -> S:
        """Ask for something that changes nothing, under an id of its own: nothing may answer it from memory."""
        try:
            return self._ask(message, f"{verb}_{self._around.draw()}", expected, most=most)
        except CallFailed as error:
            if error.code == f"status_{UNAUTHORIZED}":
                raise Unreachable("the provisioner does not know the broker's signature") from None
            raise

    # -- making

    def plan(self, spec: LeaseSpec) -> Effect:
        """Plan one account."""
        detail: dict[str, JsonValue] = {
            "entitlement": spec.entitlement,
            "grants": [*self._config.entitlements[spec.entitlement].grants],
            "person": spec.person_id,
            "ends_at": spec.ends_at.astimezone(UTC).isoformat(),
        }
        return Effect("webhook", spec.account, detail)

    def apply(self, effect: Effect, deadline: datetime) -> Credential:
        """Let the provisioner make the account. Only its own `not_made`, and then `absent`, proves that nothing was made."""
        message = Apply(lease=_lease(effect), deadline=deadline.astimezone(UTC))
        said: Said = self._ask(message, f"apply_{effect.name}", Made, NotMade)
        if isinstance(said, NotMade):
            # Somebody on the way may have delivered the message twice, so that this answers the second one.
            if self._look(Read(account=effect.name), "read", State).state != "absent":
                raise CallFailed("not_made_but_there")
            raise NotDone(f"the provisioner made nothing: {said.reason}")
        made = cast(Made, said)
        command = self._config.command.replace(PLACE, shlex.quote(made.username))
        return Credential(Secret(made.secret), username=made.username, command=command, note=made.note)

    def bury(self, effect: Effect) -> None:
        """Let the provisioner take the name."""
        said = self._ask(Bury(lease=_lease(effect)), f"bury_{effect.name}", State)
        if said.state == "absent":
            raise CallFailed("name_not_taken")

    # -- ending

    def cut(self, effects: Sequence[Effect]) -> Proofs:
        """Let the provisioner end logins and sessions, and read back."""
        leases = [(effect.name, _lease(effect)) for effect in effects]
        return _each(leases, lambda name, lease: self._ended(name, Cut(lease=lease), "cut", ("locked", "absent")))

    def clean(self, effects: Sequence[Effect]) -> Proofs:
        """Let the provisioner take the accounts away, and read back."""
        leases = [(effect.name, _lease(effect)) for effect in effects]
        return _each(leases, lambda name, lease: self._ended(name, Clean(lease=lease), "clean", ("absent",)))

    def _ended(self, name: str, message: Message, verb: str, allowed: tuple[str, ...]) -> Mapping[str, JsonValue]:
        """Ask for it, then look again: both answers must say that it is so."""
        _require(self._ask(message, f"{verb}_{name}", State), allowed)
        then = _require(self._look(Read(account=name), "read", State), allowed)
        word = "account" if verb == "clean" else "login"
        return {word: then.state, "sessions": then.sessions, "said_by": "provisioner"}

    # -- looking

    def expects(self, effect: Effect, ends_at: datetime) -> Account:
        """Return the account with the grants of its entitlement."""
        return Account(effect.name, frozenset(cast("list[str]", effect.detail["grants"])), expires_at=ends_at)

    def observe(self) -> Inventory:
        """Return what the provisioner lists."""
        said = self._look(Observe(), "observe", All, most=INVENTORY_BYTES)
        accounts = {one.name: _account(one) for one in said.accounts}
        if len(accounts) != len(said.accounts):
            raise CallFailed("account_listed_twice")
        return Inventory(accounts, frozenset(said.coverage))

    def quarantine(self, account: str, *, remove: bool) -> Quarantined:
        """Let the provisioner lock or delete an account."""
        digest = hashlib.sha256(f"{remove}\0{account}".encode()).hexdigest()
        said = self._ask(Quarantine(account=account, remove=remove), f"quarantine_{digest}", Handled)
        return Quarantined(said.done, said.statement)

    # -- the broker's own key

    def probe(self) -> tuple[str, ...]:
        """Ask the provisioner, and try whether it takes what it must refuse."""
        found = [*self._look(Probe(), "probe", Findings).findings]
        stranger = self._signer(Secret(self._around.draw()))
        try:
            if self._tried([stranger], self._around.now()) != UNAUTHORIZED:
                found.append("too mighty: the provisioner takes messages that somebody else signed")
            if self._tried(self._signers(), self._around.now() - STALE) != UNAUTHORIZED:
                found.append(
                    "too mighty: the provisioner takes messages that are an hour old, so that they can be played again"
                )
        except NotDelivered as error:
            raise CallFailed(str(error)) from error
        if self._config.ends_by_itself == "nothing":
            found.append("note: the provisioner ends nothing by itself when the broker is dead")
        return tuple(found)

    def _tried(self, signers: Sequence[Signer], at: datetime) -> int:
        return self._send(Read(account="jit-probe"), f"read_{self._around.draw()}", signers, at=at).status

    def rotate_own(self, old: Secret, new: Secret) -> None:
        """Tell the provisioner what to check with, signed with both: it takes whichever it knows, also when it was told before."""
        signers = [self._signer(old), self._signer(new)]
        message = Rotate(check_with=signers[1].shared)
        digest = hashlib.sha256(signers[1].shared.encode()).hexdigest()
        self._ask(message, f"rotate_{digest}", Rotated, signers=signers)

    def close(self) -> None:
        """Nothing is kept open."""


def _require(said: State, allowed: tuple[str, ...]) -> State:
    """Return what was said where it is one of these states, without sessions; raises CallFailed."""
    if said.state not in allowed:
        raise CallFailed(f"still_{said.state}")
    if said.sessions:
        raise CallFailed("sessions_left")
    return said


def _lease(effect: Effect) -> Lease:
    """Return an effect as the provisioner is told; raises ValueError for a name that no lease made."""
    if not is_own_account(effect.name):
        raise ValueError("not the name of a lease's account")
    detail = cast("Mapping[str, Any]", effect.detail)
    return Lease(
        account=effect.name,
        entitlement=detail["entitlement"],
        grants=detail["grants"],
        person=detail["person"],
        ends_at=datetime.fromisoformat(detail["ends_at"]),
    )


def _each(
    leases: Sequence[tuple[str, Lease]], act: Callable[[str, Lease], Mapping[str, JsonValue]]
) -> dict[str, Mapping[str, JsonValue]]:
    """Act on each, some beside each other; raise the first error, after all are through."""
    if len(leases) == 1:
        ((name, lease),) = leases
        return {name: act(name, lease)}
    with ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="webhook") as pool:
        started = {name: pool.submit(act, name, lease) for name, lease in leases}
    return {name: future.result() for name, future in started.items()}


def _account(one: Listed) -> Account:
    return Account(
        one.name,
        frozenset(one.rights),
        one.sessions,
        one.enabled,
        one.expires_at,
        one.fingerprint,
        frozenset(one.owns),
    )


EXAMPLE = WebhookConfig(
    kind="webhook",
    url="https://doors.example/jitaccess",
    secret="doors",  # noqa: S106 - the name of a file, not a secret
    entitlements={"opener": Meaning(grants=["open:vault"])},
)


def setup(config: WebhookConfig | None) -> str:
    """Return the steps that make the two known to each other."""
    config = config or EXAMPLE
    mark = webhooks.SECRET_PREFIX if config.signature == "hmac" else webhooks.PRIVATE_PREFIX
    draw = f"import base64, os; print('{mark}' + base64.b64encode(os.urandom(32)).decode())"
    public = "from jitaccess.outbound.webhooks import Scheme, Signer; print(Signer(Scheme.ED25519, input()).shared)"
    give = (
        f"# 2. Give the provisioner at {config.url} the same line to check with."
        if config.signature == "hmac"
        else f'# 2. Give the provisioner at {config.url} the public key:\npython3 -c "{public}" <{config.secret}'
    )
    return (
        f"# 1. In targets.secrets_dir: the key that the broker signs with.\n"
        f'(umask 077; python3 -c "{draw}" >{config.secret})\n{give}\n'
        "# 3. `jitaccess targets probe` tries it, and that the provisioner refuses what others sign and what is old.\n"
        "# 4. `jitaccess targets rotate` exchanges the key for one that nobody has seen.\n"
        "# What it must answer: docs/reference/provisioner.md. A small whole one: examples/webhook/provisioner.py.\n"
    )


def _enforces(connector: Mapping[str, JsonValue]) -> EnforcesExpiry:
    return EnforcesExpiry(str(connector.get("ends_by_itself", EnforcesExpiry.NOTHING)))


KIND = ConnectorKind(
    "webhook",
    WebhookConfig,
    WebhookConnector,
    setup,
    enforces_expiry=EnforcesExpiry.NOTHING,
    enforces=_enforces,
    place=("url",),
)
