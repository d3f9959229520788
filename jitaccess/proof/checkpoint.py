"""What was the log at one moment? C2SP tlog-checkpoint 1.0: origin, size, root, and our extension lines.

Lines: origin; tree size in decimal; base64 root; then `at <unix seconds>`, and `pilot` while the instance runs with one founder.
The text is signed as a note (see `notes`).
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jitaccess.proof.errors import ProofError
from jitaccess.proof.merkle import HASH_BYTES
from jitaccess.proof.notes import VerifierKey, open_note, sign_note, text_of


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log."""

    origin: str
    size: int
    root: bytes
    at_s: int
    pilot: bool = False

    def to_text(self) -> str:
        """Return the checkpoint's text, without signatures."""
        lines = [self.origin, str(self.size), base64.b64encode(self.root).decode(), f"at {self.at_s}"]
        return "\n".join([*lines, *(["pilot"] if self.pilot else [])]) + "\n"

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """Read a checkpoint's text strictly; raises ProofError. Unknown extension lines are refused: we write none."""
        lines = text.split("\n")
        if len(lines) not in (5, 6) or lines[-1] != "" or not lines[0]:
            raise ProofError("bad_checkpoint", "not a checkpoint of ours")
        size, at = lines[1], lines[3].removeprefix("at ")
        if not _decimal(size) or not lines[3].startswith("at ") or not _decimal(at):
            raise ProofError("bad_checkpoint", "size or time is not a decimal number")
        if len(lines) == 6 and lines[4] != "pilot":
            raise ProofError("bad_checkpoint", "an unknown extension line")
        try:
            root = base64.b64decode(lines[2], validate=True)
        except (binascii.Error, ValueError) as error:
            raise ProofError("bad_checkpoint", "the root is not base64") from error
        found = cls(lines[0], int(size), root, int(at), pilot=len(lines) == 6)
        if len(root) != HASH_BYTES or found.to_text() != text:
            raise ProofError("bad_checkpoint", "not a checkpoint of ours")
        return found

    def sign(self, *keys: Ed25519PrivateKey) -> str:
        """Return the note signed by each key; the signers' name is the origin."""
        return sign_note(self.to_text(), self.origin, *keys)


def _decimal(text: str) -> bool:
    return text.isascii() and text.isdigit() and (text == "0" or text[0] != "0") and len(text) <= 16


def open_checkpoint(note: str, keys: Sequence[VerifierKey]) -> Checkpoint:
    """Return the checkpoint of a signed note, signed by one of `keys` that bears its origin's name; raises ProofError."""
    text, signers = open_note(note, keys)
    found = Checkpoint.parse(text)
    if not any(key.name == found.origin for key in signers):
        raise ProofError("unknown_signer", "not signed in the name of its origin")
    return found


def unverified_checkpoint(note: str) -> Checkpoint:
    """Return what a note claims, whoever signed it; raises ProofError."""
    return Checkpoint.parse(text_of(note))
