"""Is this export of the log whole and true? Offline: the standard library and `proof` only, no database (R68, R70).

1 every entry hashes to its place in the list of hashes · 2 the checkpoints, smallest first: one signed by a trusted key whose root
the list gives vouches for every entry under it; a key that such an entry introduces is trusted from there on, one that it retires no
longer · 3 no signed checkpoint contradicts another or the list, and the newest covers all · 4 an older checkpoint, kept elsewhere, is
a prefix of this log · 5 texts, if any, are those that their entries are bound to.
The list authenticated by 2 is what lets 1 name the first bad entry; when the list was rewritten too, the range between the last good
and the first failing checkpoint is named. Without an older checkpoint the log is "consistent with itself only": whoever holds the
keys could have rewritten all of it. Never trusts a key because an entry names it that no trusted signature covers.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jitaccess.proof.canonical import b64u_decode, salted_digest
from jitaccess.proof.checkpoint import Checkpoint, unverified_checkpoint
from jitaccess.proof.errors import ProofError
from jitaccess.proof.leaf import Leaf
from jitaccess.proof.merkle import HASH_BYTES, Frontier, leaf_hash
from jitaccess.proof.notes import VerifierKey, open_note

MAX_LINE = 4 * 1024 * 1024
"""Bytes; a longer line is no entry of ours."""
CREATED, ROTATED, RETIRED = "keys.created", "keys.rotated", "keys.retired"
_KEY_EVENT = b'"type":"keys.'
"""Stands in every entry about keys: the canonical form has no white space."""
_HAS_TEXTS = b'"texts":{"'


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that does not hold."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """What was found."""

    entries: int
    """Entries that hash to their place in the list."""
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

    Raises ProofError when the folder is not an export at all, `older` no checkpoint, or a vkey no verifier key.
    """
    return _Verification(_Folder(folder), older, vkeys).run()


@dataclass(frozen=True, slots=True)
class _Folder:
    """The files of an export."""

    path: Path

    def text(self, name: str) -> str:
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ProofError("not_an_export", f"{name} cannot be read in {self.path}") from error

    def content(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise ProofError("not_an_export", f"{name} cannot be read in {self.path}") from error

    def lines(self, name: str) -> Iterator[bytes]:
        """Give the lines with their ends; one beyond MAX_LINE comes in pieces."""
        try:
            with (self.path / name).open("rb") as file:
                while line := file.readline(MAX_LINE):
                    yield line
        except OSError as error:
            raise ProofError("not_an_export", f"{name} cannot be read in {self.path}") from error

    def has(self, name: str) -> bool:
        return (self.path / name).exists()

    def keys(self) -> tuple[str, list[str]]:
        """Return what keys.json claims: the origin and the vkeys."""
        try:
            value = json.loads(self.text("keys.json"))
            return str(value["origin"]), [str(text) for text in value["vkeys"]]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ProofError("not_an_export", "keys.json cannot be read") from error


@dataclass(frozen=True, slots=True)
class _Note:
    """A checkpoint of the export: where it stands, its signed note, and what it claims."""

    name: str
    note: str
    claim: Checkpoint


@dataclass(slots=True)
class _TrustedKey:
    """A verifier key and the sizes of the tree, both ends inclusive, for which its signature counts."""

    key: VerifierKey
    since: int = 0
    until: int | None = None

    def counts_at(self, size: int) -> bool:
        return self.since <= size and (self.until is None or size <= self.until)


@dataclass(slots=True)
class _Keys:
    """Which keys may sign for which sizes; learns from authenticated entries only."""

    origin: str
    by_text: dict[str, _TrustedKey] = field(default_factory=dict)

    def signed(self, note: str, size: int, besides: frozenset[str] = frozenset()) -> bool:
        """Say whether a trusted key signed; `besides` are vkeys that do not count. Raises ProofError for a broken signature."""
        try:
            _, signers = open_note(note, [held.key for held in self.by_text.values()])
        except ProofError as error:
            if error.reason == "unknown_signer":
                return False
            raise
        texts = {key.to_text() for key in signers if key.name == self.origin} - besides
        return any(self.by_text[text].counts_at(size) for text in texts)

    def learn(self, index: int, leaf: Leaf) -> None:
        """Take note of one authenticated entry about keys."""
        if leaf.body.get("purpose") != "audit":
            return
        vkey = leaf.body.get("vkey")
        if leaf.type in (CREATED, ROTATED) and isinstance(vkey, str) and vkey not in self.by_text:
            try:
                self.by_text[vkey] = _TrustedKey(VerifierKey.parse(vkey), since=index + 1)
            except ProofError:
                return  # the log says what no key is: nothing to trust
        for text in self.retired_by(leaf):
            held = self.by_text[text]
            held.until = index if held.until is None else min(held.until, index)

    def retired_by(self, leaf: Leaf) -> set[str]:
        """Return the known vkeys that an entry retires."""
        if leaf.type != RETIRED or leaf.body.get("purpose") != "audit" or leaf.body.get("overlap") is not False:
            return set()
        return {text for text, held in self.by_text.items() if leaf.body.get("key") == f"audit-{held.key.key_id.hex()}"}


class _Verification:
    def __init__(self, folder: _Folder, older: str | None, vkeys: Sequence[str]) -> None:
        self._folder = folder
        self._older_note = older
        self._older = unverified_checkpoint(older) if older is not None else None
        self._given = bool(vkeys)
        self._origin, own = folder.keys()
        self._keys = _Keys(self._origin)
        for text in vkeys or own:
            key = VerifierKey.parse(text)
            self._keys.by_text[key.to_text()] = _TrustedKey(key)
        self._problems: list[Problem] = []
        self._first_bad: int | None = None
        self._range: tuple[int, int] | None = None

    def run(self) -> Report:
        hashes = self._hashes()
        matching, broken, about_keys = self._scan(hashes)  # 1
        notes = self._notes()
        sizes = {note.claim.size for note in notes} | ({self._older.size} if self._older else set())
        roots = _roots(hashes, sizes)
        good = self._authenticate(notes, roots, about_keys)  # 2
        self._judge(notes, roots, good, listed=len(hashes) // HASH_BYTES)  # 3
        if broken is not None and (self._range is None or matching < good):
            self._bad(matching, broken)
            self._range = None
        if self._older is not None:
            self._check_older(self._older, roots, listed=len(hashes) // HASH_BYTES)  # 4
        if self._folder.has("texts.jsonl"):
            self._check_texts()  # 5
        self._settle_first_bad()
        return Report(
            matching,
            tuple(self._problems),
            self._first_bad,
            self._range,
            consistent_with_itself_only=self._older is None,
            keys_from_export=not self._given,
        )

    def _wrong(self, code: str, message: str) -> None:
        self._problems.append(Problem(code, message))

    def _bad(self, number: int, problem: Problem) -> None:
        if self._first_bad is None or number < self._first_bad:
            self._first_bad = number
        self._problems.append(problem)

    def _settle_first_bad(self) -> None:
        """Of a number and a range keep the one that comes first: the other is only its consequence."""
        if self._range is None or self._first_bad is None:
            return
        low, high = self._range
        if self._first_bad <= low:
            self._range = None
            return
        self._range = (low, min(high, self._first_bad + 1))
        self._first_bad = None

    # -- reading

    def _hashes(self) -> bytes:
        """Return the list of hashes, one after the other."""
        content = self._folder.content("hashes")
        over = len(content) % HASH_BYTES
        if over:
            self._wrong("hash_list_cut", "The list of hashes ends in the middle of one.")
        return content[: len(content) - over]

    def _scan(self, hashes: bytes) -> tuple[int, Problem | None, list[tuple[int, Leaf]]]:
        """Compare the entries with the list: how many fit, what is wrong with the next one, and which are about keys."""
        about_keys: list[tuple[int, Leaf]] = []
        number, listed = 0, len(hashes) // HASH_BYTES
        for line in self._folder.lines("entries.jsonl"):
            if number == listed:
                return number, Problem("extra_entry", f"Entry {number} is one more than was signed."), about_keys
            leaf = line[:-1]
            if line[-1:] != b"\n" or leaf_hash(leaf) != hashes[number * HASH_BYTES : (number + 1) * HASH_BYTES]:
                message = f"Entry {number} is not what was signed: changed, missing, added or moved."
                return number, Problem("bad_entry", message), about_keys
            if _KEY_EVENT in leaf:
                parsed = _leaf(leaf)
                if parsed is not None:
                    about_keys.append((number, parsed))
            number += 1
        missing = Problem("missing_entries", f"Entries from {number} on are missing.") if number < listed else None
        return number, missing, about_keys

    def _notes(self) -> list[_Note]:
        """Return every checkpoint of this log that can be read, smallest first."""
        found: list[_Note] = []
        self._take_note(found, "checkpoint", self._folder.text("checkpoint"))
        for number, line in enumerate(self._folder.lines("checkpoints.jsonl"), start=1):
            name = f"checkpoints.jsonl, line {number}"
            try:
                note = json.loads(line)["note"]
            except (ValueError, KeyError, TypeError, RecursionError):
                note = None
            if isinstance(note, str):
                self._take_note(found, name, note)
            else:
                self._wrong("bad_checkpoint_line", f"{name}: not a checkpoint.")
        return sorted(found, key=lambda note: note.claim.size)

    def _take_note(self, found: list[_Note], name: str, note: str) -> None:
        try:
            claim = unverified_checkpoint(note)
        except ProofError as error:
            self._wrong("bad_checkpoint", f"{name}: {error}.")
            return
        if claim.origin != self._origin:
            self._wrong("other_log", f"{name}: the checkpoint of another log, {claim.origin}.")
            return
        found.append(_Note(name, note, claim))

    # -- checking

    def _authenticate(
        self, notes: Sequence[_Note], roots: dict[int, bytes], about_keys: Sequence[tuple[int, Leaf]]
    ) -> int:
        """Return how many entries of the list a trusted signature covers; learn keys from those entries on the way."""
        good = learned = 0
        for note in notes:
            size = note.claim.size
            if roots.get(size) != note.claim.root:
                continue
            under = [(index, leaf) for index, leaf in about_keys[learned:] if index < size]
            retired = frozenset(text for _, leaf in under for text in self._keys.retired_by(leaf))
            try:
                signed = self._keys.signed(note.note, size, retired)
            except ProofError:
                continue  # told by _judge
            if signed:
                good = size
                for index, leaf in under:
                    self._keys.learn(index, leaf)
                learned += len(under)
        return good

    def _judge(self, notes: Sequence[_Note], roots: dict[int, bytes], good: int, *, listed: int) -> None:
        """Tell what the checkpoints say against the list, now that all trusted keys are known."""
        last_fitting = 0
        failing: Checkpoint | None = None
        for note in notes:
            size = note.claim.size
            fits = roots.get(size) == note.claim.root
            try:
                signed = self._keys.signed(note.note, size)
            except ProofError as error:
                self._wrong("bad_checkpoint", f"{note.name}: {error}.")
                continue
            if not signed:
                if not (fits and size <= good):  # a true statement needs no known signer
                    self._wrong("unknown_signer", f"{note.name}: not signed by a trusted key.")
            elif fits:
                last_fitting = size
            elif size <= good:
                self._wrong(
                    "fork", f"{note.name}: a signed root for {size} entries that is not this log's: it was forked."
                )
            elif failing is None:
                failing = note.claim
        if failing is not None:
            self._tell_failing(failing, last_fitting, listed)
        elif good == 0:
            self._wrong("no_checkpoint", "No checkpoint signed by a trusted key: nothing vouches for these entries.")
        elif good < listed:
            message = f"Entries from {good} on are under no checkpoint signed by a trusted key."
            self._bad(good, Problem("unsigned_tail", message))

    def _tell_failing(self, failing: Checkpoint, good: int, listed: int) -> None:
        if failing.size > listed:
            vouched = "" if good == listed else f" No signed checkpoint vouches for entries {good} to {listed - 1}."
            message = f"Entries from {listed} on are missing; {failing.size} were signed.{vouched}"
            self._bad(listed, Problem("hash_list_short", message))
            return
        self._range = (good, failing.size)
        self._wrong(
            "list_rewritten",
            f"The list of hashes was rewritten: the first bad entry is one of {good} to {failing.size - 1}.",
        )

    def _check_older(self, older: Checkpoint, roots: dict[int, bytes], *, listed: int) -> None:
        """Compare with the checkpoint kept elsewhere: same log, known signer, and a prefix of this one."""
        if older.origin != self._origin:
            self._wrong("other_log", f"The older checkpoint is of another log, {older.origin}.")
            return
        try:
            signed = self._keys.signed(self._older_note or "", older.size)
        except ProofError as error:
            self._wrong("bad_older", f"The older checkpoint: {error}.")
            return
        if not signed:
            self._wrong(
                "other_key",
                "The older checkpoint was signed by a key that this log does not know: the whole log may be another one.",
            )
        if older.size > listed:
            self._bad(
                listed,
                Problem(
                    "rolled_back",
                    f"The older checkpoint covers {older.size} entries, this log ends after {listed}: "
                    f"entry {listed} is the first that is missing.",
                ),
            )
        elif roots[older.size] != older.root:
            self._wrong("not_a_prefix", f"The first {older.size} entries are not those of the older checkpoint.")
            if self._first_bad is None or older.size <= self._first_bad or self._range is not None:
                low, high = self._range or (0, older.size)
                self._range = (low if low < older.size else 0, min(high, older.size))

    def _check_texts(self) -> None:
        digests: dict[tuple[str, str], str] = {}
        for line in self._folder.lines("entries.jsonl"):
            leaf = _leaf(line.rstrip(b"\n")) if _HAS_TEXTS in line else None
            if leaf is not None:
                digests.update({(leaf.id, name): digest for name, digest in leaf.texts.items()})
        for number, line in enumerate(self._folder.lines("texts.jsonl"), start=1):
            try:
                value = json.loads(line)
                digest = salted_digest(value["text"], b64u_decode(value["salt_b64u"]))
                same = digests.get((value["event"], value["name"])) == digest
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                same = False
            if not same:
                self._wrong("bad_text", f"texts.jsonl, line {number}: not the text that its entry is bound to.")
                return


def _roots(hashes: bytes, sizes: set[int]) -> dict[int, bytes]:
    """Return the root at each wanted size that the list reaches."""
    roots: dict[int, bytes] = {}
    frontier = Frontier()
    for size in sorted(size for size in sizes if size * HASH_BYTES <= len(hashes)):
        start, end = frontier.size * HASH_BYTES, size * HASH_BYTES
        frontier = frontier.extend(hashes[at : at + HASH_BYTES] for at in range(start, end, HASH_BYTES))
        roots[size] = frontier.root()
    return roots


def _leaf(data: bytes) -> Leaf | None:
    try:
        return Leaf.parse(data)
    except ProofError:
        return None
