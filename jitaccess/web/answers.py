"""What does the JSON API answer? The shapes of every 200 and of every problem, for the OpenAPI document and its tests.

Answers may grow by members that are not named here; a member that is named here is never taken away or given another meaning.
Times are whole UTC seconds since 1970, durations whole seconds.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from jitaccess.broker.endings import Why
from jitaccess.domain.lifecycle import GrantState, LeaseState, RequestState
from jitaccess.errors import DOORS, Kind

PROBLEM_TYPES = tuple(DOORS[kind].problem for kind in Kind)


class Answered(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(extra="allow")


class Problem(Answered):
    """Why not (RFC 9457). `type` says what a program can do about it, `code` exactly what was wrong, `detail` tells a person."""

    type: str = Field(json_schema_extra={"enum": list(PROBLEM_TYPES)})
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    """The member or record that is meant, where there is one."""
    retry_after_s: int | None = None


class Done(Answered):
    """It is done; there is nothing to tell."""


class Begun(Answered):
    """A ceremony that a passkey answers: give `options` to it, post its answer to the matching `/complete`."""

    challenge_id: str
    options: dict[str, Any]
    """What WebAuthn's `navigator.credentials` takes, as `parseRequestOptionsFromJSON` reads it."""
    statement_b64u: str | None = None
    """The exact bytes that the challenge stands for, where a statement is signed."""


class SignedIn(Answered):
    """Who signed in; the session is in the cookie."""

    person_id: str


class Forgotten(Answered):
    """Whether the browser should forget the passkey."""

    forget: bool


class NewPasskey(Answered):
    """A passkey was added."""

    passkey_id: str


class Me(Answered):
    """Who this session belongs to."""

    person_id: str
    name: str
    institution: str
    unit: str
    admin: bool
    auditor: bool
    session_ends_at: int
    pilot: bool


class OwnPasskey(Answered):
    """A passkey of one's own."""

    id: str
    name: str
    provider: str | None
    created_at: int
    last_used_at: int | None
    synced: bool
    status: str
    this_session: bool


class Input(Answered):
    """What a rule wants to know besides duration and reason."""

    name: str
    type: str
    label: str


class Entry(Answered):
    """A right that this person may ask for."""

    target: str
    target_name: str
    entitlement: str
    label: str
    risk: str
    reachable: bool
    """False: a stronger passkey is needed first."""
    needs_approval: bool
    default_s: int
    max_s: int
    start_within_s: int | None
    """How far ahead a start may lie; None: it starts at once."""
    asks: list[Input]


class AccessRequest(Answered):
    """A request."""

    id: str
    person_id: str
    target: str
    entitlement: str
    inputs: dict[str, Any]
    duration_s: int
    reason: str | None
    """None once retention deleted it."""
    state: RequestState
    created_at: int
    approve_by: int
    policy_digest: str


class Vote(Answered):
    """One verdict."""

    step: str
    verdict: Literal["approve", "deny"]
    person_id: str
    deputy_of: str | None
    """In whose place it was given."""
    signed: bool
    """False for a refusal that still waits for its signature; it counts all the same."""
    max_duration_s: int | None
    """The time that was signed, in seconds; null while nothing is signed."""
    comment: str


class RequestWithVotes(AccessRequest):
    """A request and who decided what."""

    votes: list[Vote]


class Decision(Answered):
    """What policy says, with its reasons as codes and as sentences."""

    effect: str
    sentences: list[str]


class NotNow(Answered):
    """Why filing would be refused now although policy permits it: a hold, a limit, or an equal request that waits."""

    code: str
    sentence: str


class Preview(Answered):
    """What would happen, before anything is filed."""

    decision: Decision
    signers: dict[str, list[str]]
    """Step -> names of who could sign it."""
    refused: NotNow | None


class Filed(Answered):
    """The request is filed; a grant is there at once where nobody has to approve."""

    request_id: str
    state: RequestState
    grant_id: str | None


class Approved(Answered):
    """The approval is stored."""

    state: RequestState
    open_steps: list[str]
    grant_id: str | None


class BegunSet(Begun):
    """A ceremony over several approvals."""

    approvals_b64u: list[str]
    """The exact bytes of each single approval; the set's statement lists their digests."""


class ApprovedOfSet(Approved):
    """One approval of a set is stored."""

    request_id: str


class Waiting(RequestWithVotes):
    """A request with what an approver needs to know before signing."""

    requester: str
    institution: str
    unit: str
    terms: dict[str, Any]
    open_steps: list[str]
    """Steps that this person could sign now; empty for everybody else."""


class Pace(Answered):
    """How fast an approver decides."""

    person_id: str
    approvals: int
    median_s: float
    hurried: int
    percent: int


class ChangedPart(Answered):
    """What differs from the last request of that person."""

    name: str
    was: Any
    now: Any


class Touched(Answered):
    """What the access could touch."""

    target: str
    owner: str
    risk: str
    held: int
    others: int


class Unusual(Answered):
    """What stands out about a request."""

    first_time: bool
    out_of_hours: bool
    usual_s: int | None
    last_request_id: str | None
    changed: list[ChangedPart]
    touches: Touched | None


class State(Answered):
    """The request's state now."""

    state: RequestState


class DenialSigned(Answered):
    """The denial, which took effect before, is signed now."""

    signed: Literal[True]


class Grant(Answered):
    """A window in which a person may draw credentials: `starts_at <= now < ends_at` while ACTIVE."""

    id: str
    request_id: str
    person_id: str
    target: str
    entitlement: str
    state: GrantState
    cause: str | None
    starts_at: int | None
    ends_at: int | None
    activate_by: int | None
    approvals_digest: str


class Ending(Answered):
    """A credential that is being taken away: nobody gets in with it, but the system was not read back clean yet."""

    lease_id: str
    grant_id: str
    person_id: str
    target: str
    entitlement: str | None
    state: LeaseState
    cause: str | None
    ended_at: int | None
    """Since when it is being taken away."""
    attempts: int
    """How often it failed."""
    running: bool
    """Whether it is being tried at this moment."""
    next_at: int | None
    """When it is tried next; null while it runs, or is due."""
    why: Why | None
    """What went wrong last."""
    sentence: str
    """The same in the caller's language."""
    error: str | None
    """The technical word behind it, for whoever looks after the system."""


class GivenVeto(Answered):
    """A veto that counts, signed or not."""

    person_id: str
    given_at: int
    signed: bool


class Witnessed(Answered):
    """What somebody sees who neither asked nor signs."""

    request: AccessRequest
    grant: Grant | None
    vetoes: list[GivenVeto]
    stoppable: bool
    """Whether this person may stop it now."""
    unsigned: bool
    """Whether a veto of this person waits for its signature."""


class Vetoed(Answered):
    """The access is stopped."""

    grant_id: str
    state: GrantState
    cause: str | None


class VetoSigned(Answered):
    """The veto, which took effect before, is signed now."""

    veto_id: str


class Opened(Answered):
    """A credential, shown this once; it is stored nowhere in clear."""

    lease_id: str
    username: str
    command: str
    """Ready to paste."""
    secret: str | None
    files: dict[str, str]
    note: str
    shown: str
    """All of it as one text."""


class Unexplained(Answered):
    """Something on a target that no live lease explains."""

    account: str
    what: str


class Watched(Answered):
    """A target outside this broker."""

    id: str
    kind: str
    enforces_expiry: str
    looked_at: int | None
    unexplained: list[Unexplained]
    stuck: list[str]


class Hold(Answered):
    """A lock that refuses new acts and ended live ones."""

    id: str
    kind: str
    subject_id: str
    cause: str
    placed_at: int


class Recovery(Answered):
    """A replacement of an account's passkeys that is under way."""

    id: str
    account_id: str
    paper_keys: bool
    """Begun on the broker's own host; otherwise signed by administrators."""
    started_at: int
    ripe_at: int
    """From then on there is a link, until it is used or the replacement is stopped."""


class Ended(Answered):
    """How much was ended."""

    sessions: int
    requests: int
    grants: int


class Placed(Ended):
    """A hold was placed, and how much it ended."""

    hold_id: str


class Changed(Answered):
    """A change was signed; `applied` once enough persons did."""

    change_id: str
    applied: bool
    shown: str | None
    """A link or secret that is shown this once."""


class Person(Answered):
    """Somebody on the staff register."""

    id: str
    name: str
    institution: str
    unit: str
    groups: list[str]
    active: bool
    on_hold: bool
    accounts: list[str]


class Policy(Answered):
    """The active policy set."""

    digest: str
    document: dict[str, Any]


class RuleVerdict(Answered):
    """One rule and its first failing term: as a code with what it is about, and as a sentence in the reader's language."""

    rule: str
    failure: str | None
    """None if the rule permits."""
    about: str
    sentence: str | None


class Blocked(Answered):
    """What stands in the way of everything new, whatever the rules say."""

    code: str
    sentence: str


class Explained(Answered):
    """Why, or why not."""

    person_id: str
    credential: str
    """The kind of passkey that was assumed."""
    decision: Decision
    blocked: Blocked | None
    rules: list[RuleVerdict]
    signers: dict[str, list[str]]
    """Step -> ids of who could sign it."""
    enough_people: bool
    """Whether enough different people could sign every step."""


class Deputation(Answered):
    """That somebody signs in somebody's place for a while: `starts_at <= now < ends_at` unless it was ended."""

    id: str
    delegator: str
    deputy: str
    starts_at: int
    ends_at: int
    ended_at: int | None


class Change(Answered):
    """A change that waits for signatures."""

    id: str
    kind: str
    subject: str
    payload: dict[str, Any]
    required: int
    """Signatures of different persons that it needs."""
    signed_by: list[str]
    approve_by: int


class Event(Answered):
    """One entry of the log."""

    id: str
    index: int
    at: int
    type: str
    person_id: str | None
    subject: dict[str, Any]
    body: dict[str, Any]
    leaf: str
    """The exact text whose RFC 6962 leaf hash is in the tree."""


class Signed(Answered):
    """A signed statement, and what verifies it."""

    statement_b64u: str
    assertion: dict[str, Any]
    public_key_der_b64u: str | None = None
    algorithm: int | None = None


class Evidence(Answered):
    """What was signed about a request; docs/reference says how to verify it without us."""

    filing: Signed
    approvals: list[Signed]


class Checkpoint(Answered):
    """A signed head of the log (C2SP tlog-checkpoint)."""

    size: int
    note: str


class Inclusion(Answered):
    """That an entry is under a checkpoint (RFC 9162 section 2.1.3)."""

    leaf: str
    index: int
    path: list[str]
    checkpoint: str


class Consistency(Answered):
    """That an older tree is a prefix of a newer one (RFC 9162 section 2.1.4)."""

    path: list[str]
