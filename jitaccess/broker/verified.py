"""Has this process checked exactly these bytes against exactly this public key before? (docs/adr/0009)

Issuing verifies every signature again at each token. Whether bytes verify under a key is a fact that never changes, so a process need not
compute it twice: a fact is remembered under the digest of everything that it depends on, and only a check that passed is remembered.
It is never a right. Who may act, every row, seal, version, state, term and time is derived anew at each issue; this memory knows
none of them, and a changed byte or another key is another question. Bounded by the bytes that it has seen; lost with the process.
"""

import hashlib
import threading
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from jitaccess.identity.passkeys import VerifiedAssertion
from jitaccess.proof.assertion import Assertion, StoredKey, verify_approval, verify_approval_in_set, verify_filing
from jitaccess.proof.canonical import JsonValue
from jitaccess.proof.errors import ProofError
from jitaccess.proof.statements import ApprovalStatement, FilingStatement, Purpose

GENERATION_BYTES = 4 * 1024 * 1024
"""Bytes of statements after which the older half of the memory is forgotten."""
S = TypeVar("S", FilingStatement, ApprovalStatement)


@dataclass(frozen=True, slots=True)
class Signed(Generic[S]):
    """What a person signed, checked: the statement of the exact bytes, and the digest of the assertion over them."""

    statement: S
    assertion_digest: str


class Verified:
    """The facts that one process established."""

    def __init__(self, *, origin: str, rp_id: str, generation_bytes: int = GENERATION_BYTES) -> None:
        """Take the one site whose signatures are checked."""
        self._origin = origin
        self._rp_id = rp_id
        self._limit = generation_bytes
        self._guard = threading.Lock()
        self._young: dict[bytes, Signed[FilingStatement] | Signed[ApprovalStatement]] = {}
        self._old: dict[bytes, Signed[FilingStatement] | Signed[ApprovalStatement]] = {}
        self._seen_bytes = 0

    def __len__(self) -> int:
        """Return how many facts are remembered."""
        return len(self._young) + len(self._old)

    def filing(self, statement: bytes, assertion: JsonValue, key: StoredKey) -> Signed[FilingStatement]:
        """Check stored filing evidence; raises ProofError exactly as `verify_filing` does."""
        name = self._name(Purpose.FILE_REQUEST, statement, assertion, key)
        known = self._look(name)
        if known is not None:
            return cast("Signed[FilingStatement]", known)
        found = Assertion.from_json(assertion)
        parsed = verify_filing(statement, found, key, origin=self._origin, rp_id=self._rp_id)
        return self._keep(name, Signed(parsed, found.digest()), len(statement))

    def approval(self, statement: bytes, assertion: JsonValue, key: StoredKey) -> Signed[ApprovalStatement]:
        """Check stored approval evidence; raises ProofError exactly as `verify_approval` does."""
        name = self._name(Purpose.APPROVAL, statement, assertion, key)
        known = self._look(name)
        if known is not None:
            return cast("Signed[ApprovalStatement]", known)
        found = Assertion.from_json(assertion)
        parsed = verify_approval(statement, found, key, origin=self._origin, rp_id=self._rp_id)
        return self._keep(name, Signed(parsed, found.digest()), len(statement))

    def approval_in_set(
        self, statement: bytes, set_statement: bytes, assertion: JsonValue, key: StoredKey
    ) -> Signed[ApprovalStatement]:
        """Check stored evidence of an approval signed in a set; raises ProofError exactly as `verify_approval_in_set` does."""
        name = self._name(Purpose.APPROVAL_SET, statement, assertion, key, within=set_statement)
        known = self._look(name)
        if known is not None:
            return cast("Signed[ApprovalStatement]", known)
        found = Assertion.from_json(assertion)
        parsed = verify_approval_in_set(statement, set_statement, found, key, origin=self._origin, rp_id=self._rp_id)
        return self._keep(name, Signed(parsed, found.digest()), len(statement))

    def learn(self, found: VerifiedAssertion) -> None:
        """Remember what the door has just checked with both verifiers, so that the first issue need not do it a third time."""
        if found.statement is None or found.purpose not in (Purpose.FILE_REQUEST.value, Purpose.APPROVAL.value):
            return
        purpose, assertion = Purpose(found.purpose), cast(JsonValue, found.assertion)
        key = StoredKey(found.passkey.public_key_der, found.passkey.algorithm)
        name = self._name(purpose, found.statement, assertion, key)
        digest = Assertion.from_json(assertion).digest()
        if purpose is Purpose.FILE_REQUEST:
            self._keep(name, Signed(FilingStatement.parse(found.statement), digest), len(found.statement))
        else:
            self._keep(name, Signed(ApprovalStatement.parse(found.statement), digest), len(found.statement))

    def _name(
        self, purpose: Purpose, statement: bytes, assertion: JsonValue, key: StoredKey, *, within: bytes = b""
    ) -> bytes:
        """Return the digest of all that the answer depends on; each part has its length before it."""
        match assertion:
            case {
                "client_data_json": str(client),
                "authenticator_data": str(data),
                "signature": str(signature),
                **rest,
            } if not rest:
                texts = (purpose.value, self._origin, self._rp_id, str(key.algorithm), client, data, signature)
            case _:
                raise ProofError("not_an_assertion", "not a stored assertion")
        parts = [statement, within, key.public_key_der, *[text.encode(errors="surrogatepass") for text in texts]]
        return hashlib.sha256(b"".join([len(part).to_bytes(4, "big") + part for part in parts])).digest()

    def _look(self, name: bytes) -> Signed[FilingStatement] | Signed[ApprovalStatement] | None:
        return self._young.get(name) or self._old.get(name)

    def _keep(self, name: bytes, found: Signed[S], size: int) -> Signed[S]:
        with self._guard:
            self._young[name] = cast("Signed[FilingStatement] | Signed[ApprovalStatement]", found)
            self._seen_bytes += size
            if self._seen_bytes >= self._limit:
                self._old, self._young, self._seen_bytes = self._young, {}, 0
        return found
