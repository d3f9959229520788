"""Is this export of the log whole and true? Offline: the standard library and `proof` only, no database (R68, R70).

1 the checkpoints are signed by known keys and grow · 2 the list of leaf hashes gives the signed roots · 3 every entry hashes to its
place in the list · 4 an older checkpoint, kept elsewhere, is a prefix of this log. The list authenticated by 2 is what lets 3 name
the first bad entry; when the list was rewritten too, the range between the last good and the first failing checkpoint is named.
Without an older checkpoint the log is "consistent with itself only": whoever holds the keys could have rewritten all of it.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jitaccess.proof.canonical import b64u_decode, salted_digest
from jitaccess.proof.checkpoint import Checkpoint, open_checkpoint
from jitaccess.proof.errors import ProofError
from jitaccess.proof.leaf import Leaf
from jitaccess.proof.merkle import HASH_BYTES, Frontier, leaf_hash
from jitaccess.proof.notes import VerifierKey, open_note

MAX_LINE = 4 * 1024 * 1024
ROTATED = "keys.rotated"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that does not hold."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """What was found."""

    entries: int
    problems: tuple[Problem, ...]
    first_bad: int | None = None
    """Number of the first bad entry, counted from 0."""
    bad_range: tuple[int, int] | None = None
    """The first bad entry lies from the first (inclusive) to the second (exclusive) number."""
    consistent_with_itself_only: bool = True
    keys_from_export: bool = True
    """The keys were taken from the export itself: nobody vouched for them."""

    @property
    def ok(self) -> bool:
        """Say whether everything held."""
        return not self.problems


def verify_export(folder: Path, *, older: str | None = None, vkeys: Sequence[str] = ()) -> Report:
    """Verify an export folder against itself, an older checkpoint note, and verifier keys that the caller trusts.

    Raises ProofError when the folder is not an export at all.
    """
    return _Verification(folder, older, vkeys).run()


class _Verification:
    def __init__(self, folder: Path, older: str | None, vkeys: Sequence[str]) -> None:
        self._folder = folder
        self._older_note = older
        self._problems: list[Problem] = []
        self._given = bool(vkeys)
        self._keys = [VerifierKey.parse(text) for text in (vkeys or self._own_keys())]
        self._first_bad: int | None = None
        self._range: tuple[int, int] | None = None
        self._entries = 0

    def _own_keys(self) -> list[str]:
        try:
            value = json.loads(self._read("keys.json"))
            return [str(text) for text in value["vkeys"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ProofError("not_an_export", "keys.json cannot be read") from error

    def _read(self, name: str) -> str:
        try:
            return (self._folder / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ProofError("not_an_export", f"{name} cannot be read in {self._folder}") from error

    def run(self) -> Report:
        hashes = self._hashes()
        self._follow_rotations()
        checkpoints = self._checkpoints()  # 1
        older = self._older()
        roots = self._roots(hashes, {point.size for point in checkpoints} | ({older.size} if older else set()))
        self._check_roots(checkpoints, roots, len(hashes))  # 2
        if self._range is None:
            self._check_entries(hashes)  # 3
        if older is not None:
            self._check_older(older, roots, hashes)  # 4
        if (self._folder / "texts.jsonl").exists():
            self._check_texts()
        return Report(
            self._entries,
            tuple(self._problems),
            self._first_bad,
            self._range,
            consistent_with_itself_only=older is None,
            keys_from_export=not self._given,
        )

    def _wrong(self, code: str, message: str) -> None:
        self._problems.append(Problem(code, message))

    # -- reading

    def _hashes(self) -> list[bytes]:
        try:
            data = (self._folder / "hashes").read_bytes()
        except OSError as error:
            raise ProofError("not_an_export", "hashes cannot be read") from error
        if len(data) % HASH_BYTES:
            self._wrong("hash_list_cut", "The list of hashes ends in the middle of one.")
        return [data[at : at + HASH_BYTES] for at in range(0, len(data) - len(data) % HASH_BYTES, HASH_BYTES)]

    def _lines(self) -> Iterator[bytes]:
        try:
            with (self._folder / "entries.jsonl").open("rb") as file:
                while line := file.readline(MAX_LINE):
                    yield line
        except OSError as error:
            raise ProofError("not_an_export", "entries.jsonl cannot be read") from error

    def _follow_rotations(self) -> None:
        """Learn checkpoint keys that the log itself announced; with given keys only what those keys cover counts (step 2)."""
        known = {key.to_text() for key in self._keys}
        for line in self._lines():
            if ROTATED.encode() not in line:
                continue
            try:
                leaf = Leaf.parse(line.rstrip(b"\n"))
                vkey = leaf.body.get("vkey") if leaf.type == ROTATED else None
                if isinstance(vkey, str) and vkey not in known:
                    self._keys.append(VerifierKey.parse(vkey))
            except ProofError:
                continue  # a bad entry is named by step 3

    def _checkpoints(self) -> list[Checkpoint]:
        notes = [self._read("checkpoint")]
        for number, line in enumerate(self._read("checkpoints.jsonl").splitlines(), start=1):
            try:
                notes.append(str(json.loads(line)["note"]))
            except (ValueError, KeyError, TypeError):
                self._wrong("bad_checkpoint_line", f"checkpoints.jsonl, line {number}: not a checkpoint.")
        found: dict[int, Checkpoint] = {}
        for number, note in enumerate(notes):
            name = "checkpoint" if number == 0 else f"checkpoints.jsonl, line {number}"
            try:
                point = open_checkpoint(note, self._keys)
            except ProofError as error:
                self._wrong("bad_checkpoint", f"{name}: {error}.")
                continue
            twin = found.setdefault(point.size, point)
            if twin.root != point.root:
                self._wrong(
                    "fork", f"Two signed checkpoints of size {point.size} have different roots: the log was forked."
                )
        return [found[size] for size in sorted(found)]

    def _older(self) -> Checkpoint | None:
        if self._older_note is None:
            return None
        try:
            return open_checkpoint(self._older_note, self._keys)
        except ProofError as error:
            if error.reason == "unknown_signer":
                try:
                    text, _ = open_note(self._older_note, self._keys)
                    Checkpoint.parse(text)
                except ProofError:
                    self._wrong(
                        "other_key",
                        "The older checkpoint was signed by a key that this log does not know: the whole log may be another one.",
                    )
                    return self._unsigned_older()
            raise

    def _unsigned_older(self) -> Checkpoint | None:
        """Read the older checkpoint without its signature: the caller kept it himself, so its root still tells."""
        note = self._older_note or ""
        try:
            return Checkpoint.parse(note[: note.rfind("\n\n") + 1])
        except ProofError:
            return None

    # -- checking

    @staticmethod
    def _roots(hashes: Sequence[bytes], sizes: set[int]) -> dict[int, bytes]:
        """Return the root at each wanted size that the list reaches."""
        roots: dict[int, bytes] = {}
        frontier, at = Frontier(), 0
        for size in sorted(size for size in sizes if size <= len(hashes)):
            frontier = frontier.extend(hashes[at:size])
            at = size
            roots[size] = frontier.root()
        return roots

    def _check_roots(self, checkpoints: Sequence[Checkpoint], roots: dict[int, bytes], listed: int) -> None:
        good = 0
        for point in checkpoints:
            if point.size > listed:
                self._first_bad = listed if self._first_bad is None else self._first_bad
                self._wrong("hash_list_short", f"Entries from {listed} on are missing; {point.size} were signed.")
                return
            if roots[point.size] != point.root:
                self._range = (good, point.size)
                self._wrong(
                    "list_rewritten",
                    f"The list of hashes was rewritten: the first bad entry is one of {good} to {point.size - 1}.",
                )
                return
            good = point.size
        if not checkpoints:
            self._wrong("no_checkpoint", "No checkpoint signed by a known key: nothing vouches for these entries.")
        elif good < listed:
            self._first_bad = good
            self._wrong("unsigned_tail", f"Entries from {good} on are under no signed checkpoint.")

    def _check_entries(self, hashes: Sequence[bytes]) -> None:
        number = 0
        for line in self._lines():
            whole = line.endswith(b"\n")
            if number >= len(hashes):
                self._bad(number, "extra_entry", f"Entry {number} is one more than was signed.")
                break
            if not whole or leaf_hash(line[:-1]) != hashes[number]:
                self._bad(
                    number, "bad_entry", f"Entry {number} is not what was signed: changed, missing, added or moved."
                )
                break
            number += 1
        else:
            if number < len(hashes):
                self._bad(number, "missing_entries", f"Entries from {number} on are missing.")
        self._entries = number

    def _bad(self, number: int, code: str, message: str) -> None:
        if self._first_bad is None or number < self._first_bad:
            self._first_bad = number
        self._wrong(code, message)

    def _check_older(self, older: Checkpoint, roots: dict[int, bytes], hashes: Sequence[bytes]) -> None:
        if older.size > len(hashes):
            self._bad(
                len(hashes),
                "rolled_back",
                f"The older checkpoint covers {older.size} entries, this log ends after {len(hashes)}: "
                f"entry {len(hashes)} is the first that is missing.",
            )
        elif roots[older.size] != older.root:
            self._wrong("not_a_prefix", f"The first {older.size} entries are not those of the older checkpoint.")
            if self._first_bad is None and self._range is None:
                self._range = (0, older.size)

    def _check_texts(self) -> None:
        digests: dict[tuple[str, str], str] = {}
        for line in self._lines():
            try:
                leaf = Leaf.parse(line.rstrip(b"\n"))
            except ProofError:
                continue
            digests.update({(leaf.id, name): digest for name, digest in leaf.texts.items()})
        for number, spoken in enumerate(self._read("texts.jsonl").splitlines(), start=1):
            try:
                value = json.loads(spoken)
                digest = salted_digest(value["text"], b64u_decode(value["salt_b64u"]))
                same = digests.get((value["event"], value["name"])) == digest
            except (ValueError, KeyError, TypeError):
                same = False
            if not same:
                self._wrong("bad_text", f"texts.jsonl, line {number}: not the text that its entry is bound to.")
                return
