"""What did a host say, and was it the host? A report is signed with the host's own SSH key; it is checked at every use.

Nothing that a report holds is trusted further than the host itself: it tells of this host's logins, keys and settings, and which
bulletin it has put in place. Sizes and types are checked before anything is read out of it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from jitaccess.connectors.contract import Posted, Report
from jitaccess.connectors.ssh_ca.config import SshHost
from jitaccess.connectors.ssh_ca.wire import blob_of_line, verify

NAMESPACE = "jitaccess-report"
KEPT_SHARE = 4
"""An unchanged report is written down so often within the time after which a host counts as silent."""
MAX_REPORT = 200_000
"""Characters."""
Short = Annotated[str, StringConstraints(max_length=400)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Login(_Part):
    """Sessions that came in with one certificate."""

    account: Short
    serial: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,20}$")]
    key_id: Short
    ends: int
    count: Annotated[int, Field(ge=1)]


class AccountKey(_Part):
    """A key in a file of authorized keys."""

    account: Short
    key: Short
    authority: bool


class Said(_Part):
    """What a host says."""

    v: Annotated[int, Field(ge=1, le=1)]
    target: Short
    host: Short
    sequence: Annotated[int, Field(ge=0, lt=2**53)]
    """The broker's time, in microseconds, of the bulletin that was fetched last."""
    nonce: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{16,100}$")]
    """Drawn by the host for one asking."""
    number: Annotated[int, Field(ge=0, lt=2**53)]
    """Of the bulletin that is in place, with every session ended that it ends."""
    logins: Annotated[list[Login], Field(max_length=10_000)]
    clock_off_s: float
    wrong: Annotated[list[Short], Field(max_length=200)]
    authorities: Annotated[list[Short], Field(max_length=200)]
    keys: Annotated[list[AccountKey], Field(max_length=2_000)]
    principals: Annotated[dict[Short, list[Short]], Field(max_length=200)]
    logind: bool = False
    """Whether login sessions are those of systemd-logind, so that what left its sshd is ended too; an older program does not say."""
    sole: Annotated[list[Short], Field(max_length=200)] = []
    """Accounts of which everything is ended that runs without a live login."""

    def reach(self, account: str) -> str:
        """Return what of this account is known to be over when no session is reported: see docs/reference/targets.md."""
        if account in self.sole and not any(login.account == account for login in self.logins):
            return "account"
        return "logind" if self.logind else "login"


@dataclass(frozen=True, slots=True)
class Heard:
    """A report that was checked."""

    said: Said
    fresh: bool
    digest: str
    """Hex SHA-256 of what was signed."""


def read(text: str, signature: str, target: str, hosts: Sequence[SshHost]) -> Said | None:
    """Return what a host of this target said and signed; None when it is not that."""
    if len(text) > MAX_REPORT:
        return None
    try:
        said = Said.model_validate(json.loads(text))
    except (ValueError, RecursionError, ValidationError):
        return None
    host = next((host for host in hosts if host.name == said.host), None)
    if host is None or said.target != target:
        return None
    signed = verify(signature, NAMESPACE, text.encode(), {blob_of_line(host.key)})
    return said if signed is not None else None


class Reader:
    """Reads what stands on a board, and remembers which reports it has checked."""

    def __init__(self, target: str, hosts: Sequence[SshHost], silent_after_s: int) -> None:
        self._target = target
        self._hosts = hosts
        self._silent_after_s = silent_after_s
        self._checked: dict[str, tuple[Report, Said | None]] = {}

    def heard(self, posted: Posted) -> Mapping[str, Heard]:
        """Return host -> its newest report, without those that are not what they should be."""
        found: dict[str, Heard] = {}
        for host in self._hosts:
            report = posted.reports.get(host.name)
            said = self._said(host.name, report) if report is not None else None
            if report is not None and said is not None:
                age_s = (posted.at - report.received_at).total_seconds()
                digest = hashlib.sha256(report.text.encode()).hexdigest()
                found[host.name] = Heard(said, age_s <= self._silent_after_s, digest)
        return found

    def knows(self, posted: Posted, said: Said) -> bool:
        """Say whether the host said the same a moment ago: not every asking is written down."""
        known = self.heard(posted).get(said.host)
        if known is None:
            return False
        age_s = (posted.at - posted.reports[said.host].received_at).total_seconds()
        same = {"nonce": said.nonce, "sequence": said.sequence, "clock_off_s": said.clock_off_s}
        return age_s * KEPT_SHARE < self._silent_after_s and known.said.model_copy(update=same) == said

    def _said(self, host: str, report: Report) -> Said | None:
        known = self._checked.get(host)
        if known is not None and known[0] == report:
            return known[1]
        said = read(report.text, report.signature, self._target, self._hosts)
        said = said if said is not None and said.host == host else None
        self._checked[host] = (report, said)
        return said
