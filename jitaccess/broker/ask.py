"""What does a person ask for? The value that previews, filings and decisions of the broker start from."""

from dataclasses import dataclass
from datetime import datetime

from jitaccess.policy.evaluate import Inputs


@dataclass(frozen=True, slots=True)
class Ask:
    """What, how long, why, and from when."""

    target: str
    entitlement: str
    inputs: Inputs
    duration_s: int | None
    reason: str
    start: datetime | None = None
    """When access shall begin; None, or a time that is over, means at once."""
    extends: str | None = None
    """The grant that this would continue; its target, entitlement, inputs and end are then those of the request."""
