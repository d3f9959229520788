"""Small values that several rooms speak of: who acts, and how strong a passkey is.

Pure values only; nothing here reads a clock, a database or a request.
"""

from dataclasses import dataclass
from enum import StrEnum

from jitaccess.errors import Kind


class ActorKind(StrEnum):
    """What sort of actor did something."""

    PERSON = "person"
    SYSTEM = "system"
    CLIENT = "client"
    LOCAL = "local"
    """Somebody with a shell on the broker's own host (genesis, key rotation, recovery)."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a person through one account and session, a client, the system itself or the local shell."""

    kind: ActorKind
    person_id: str | None = None
    account_id: str | None = None
    session_id: str | None = None
    client_id: str | None = None

    @property
    def label(self) -> str:
        """Return the id that a leaf names, or the kind where there is none."""
        return self.person_id or self.client_id or self.kind.value


SYSTEM = Actor(ActorKind.SYSTEM)
LOCAL = Actor(ActorKind.LOCAL)


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal as a value: it is committed with its event, and then the door answers with this kind and sentence."""

    kind: Kind
    code: str
    """Stable and machine-readable, e.g. `wrong_approver`, `challenge_spent`."""
    message: str
    """One plain sentence that says what to do."""
    field: str | None = None
    """The dotted name of what differs, where one does (`inputs.amount_cents`)."""
