"""Does the offline verifier name the first bad entry whatever was done to an export, and trust only whom it should?"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import jitaccess.audit.verify
from jitaccess.audit.verify import MAX_LINE, Report, verify_export
from jitaccess.cli.audit import told
from jitaccess.proof.canonical import b64u_encode, salted_digest
from jitaccess.proof.checkpoint import Checkpoint
from jitaccess.proof.errors import ProofError
from jitaccess.proof.leaf import Leaf
from jitaccess.proof.merkle import leaf_hash, root_of
from jitaccess.proof.notes import VerifierKey

ORIGIN = "jit.example.org/log"
ACTOR = {"kind": "system", "person": None, "account": None, "client": None}
FIRST, SECOND, THIRD, THIEF = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in range(4))
SALT = bytes(range(16))


def vkey(key: Ed25519PrivateKey, origin: str = ORIGIN) -> str:
    return VerifierKey(origin, key.public_key().public_bytes_raw()).to_text()


def key_id(key: Ed25519PrivateKey) -> str:
    return f"audit-{VerifierKey.parse(vkey(key)).key_id.hex()}"


@dataclass(slots=True)
class Log:
    """A log in memory that signs checkpoints and writes export folders."""

    origin: str = ORIGIN
    signers: tuple[Ed25519PrivateKey, ...] = (FIRST,)
    entries: list[bytes] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    vkeys: list[str] = field(default_factory=lambda: [vkey(FIRST)])
    texts: list[dict[str, str]] = field(default_factory=list)

    def add(self, type_: str = "request.filed", **body: Any) -> "Log":
        number = len(self.entries)
        leaf = Leaf(
            id=f"e{number:05}", at_us=number, type=type_, ev=1, actor=ACTOR, subject={}, body={"n": number, **body}
        )
        self.entries.append(leaf.to_bytes())
        return self

    def grow(self, number: int) -> "Log":
        for _ in range(number):
            self.add()
        return self

    def say(self, text: str) -> "Log":
        number = len(self.entries)
        texts = {"reason": salted_digest(text, SALT)}
        leaf = Leaf(
            id=f"e{number:05}", at_us=number, type="request.filed", ev=1, actor=ACTOR, subject={}, body={}, texts=texts
        )
        self.entries.append(leaf.to_bytes())
        self.texts.append({"event": leaf.id, "name": "reason", "salt_b64u": b64u_encode(SALT), "text": text})
        return self

    def sign(self, *keys: Ed25519PrivateKey, size: int | None = None) -> "Log":
        size = len(self.entries) if size is None else size
        root = root_of([leaf_hash(entry) for entry in self.entries[:size]])
        self.notes.append(Checkpoint(self.origin, size, root, 1_795_424_400 + size).sign(*(keys or self.signers)))
        return self

    def rotate(self, old: Ed25519PrivateKey, new: Ed25519PrivateKey) -> "Log":
        """Announce a key as the broker does; from here on both sign."""
        self.add("keys.rotated", purpose="audit", key=key_id(new), vkey=vkey(new))
        self.add("keys.retired", purpose="audit", key=key_id(old), overlap=True)
        self.signers = (new, old)
        return self

    def retire(self, old: Ed25519PrivateKey) -> "Log":
        self.add("keys.retired", purpose="audit", key=key_id(old), overlap=False)
        self.signers = tuple(key for key in self.signers if key is not old)
        return self

    def write(self, folder: Path) -> Path:
        folder.mkdir()
        (folder / "entries.jsonl").write_bytes(b"".join(entry + b"\n" for entry in self.entries))
        (folder / "hashes").write_bytes(b"".join(leaf_hash(entry) for entry in self.entries))
        (folder / "checkpoint").write_text(self.notes[-1])
        (folder / "checkpoints.jsonl").write_text("".join(json.dumps({"note": note}) + "\n" for note in self.notes))
        (folder / "keys.json").write_text(json.dumps({"origin": self.origin, "vkeys": self.vkeys}))
        if self.texts:
            (folder / "texts.jsonl").write_text("".join(json.dumps(text) + "\n" for text in self.texts))
        return folder


def make() -> Log:
    """Return a log of 30 entries with checkpoints at 5, 12, 20 and 30."""
    return Log().grow(5).sign().grow(7).sign().grow(8).sign().grow(10).sign()


OLDER = make().notes[1]
"""Covers 12 entries; kept elsewhere."""


def codes(report: Report) -> list[str]:
    return [problem.code for problem in report.problems]


def rewrite(folder: Path, entries: Sequence[bytes], *, hashes_too: bool = False) -> None:
    (folder / "entries.jsonl").write_bytes(b"".join(entry + b"\n" for entry in entries))
    if hashes_too:
        (folder / "hashes").write_bytes(b"".join(leaf_hash(entry) for entry in entries))


def edited(entries: list[bytes]) -> None:
    entries[17] = entries[17].replace(b'"n":17', b'"n":71')


def flipped(entries: list[bytes]) -> None:
    entries[17] = entries[17][:9] + bytes([entries[17][9] ^ 1]) + entries[17][10:]


def deleted(entries: list[bytes]) -> None:
    del entries[17]


def inserted(entries: list[bytes]) -> None:
    entries.insert(17, entries[3])


def swapped(entries: list[bytes]) -> None:
    entries[17], entries[23] = entries[23], entries[17]


def moved(entries: list[bytes]) -> None:
    entries.insert(25, entries.pop(17))


def truncated(entries: list[bytes]) -> None:
    del entries[17:]


DAMAGES: list[Callable[[list[bytes]], None]] = [edited, flipped, deleted, inserted, swapped, moved, truncated]


@pytest.mark.covers("R68", "R70")
def test_an_honest_export_holds(tmp_path: Path) -> None:
    folder = make().write(tmp_path / "export")
    alone = verify_export(folder)
    assert (alone.ok, alone.entries, alone.problems, alone.first_bad) == (True, 30, (), None)
    assert (alone.consistent_with_itself_only, alone.keys_from_export) == (True, True)
    kept = verify_export(folder, older=OLDER, vkeys=[vkey(FIRST)])
    assert kept.ok
    assert (kept.consistent_with_itself_only, kept.keys_from_export) == (False, False)
    assert verify_export(folder, older=make().notes[-1]).ok


@pytest.mark.covers("R68")
@pytest.mark.parametrize("older", [None, OLDER], ids=["alone", "older"])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_the_first_bad_entry_is_named(tmp_path: Path, damage: Callable[[list[bytes]], None], older: str | None) -> None:
    log = make()
    folder = log.write(tmp_path / "export")
    damage(log.entries)
    rewrite(folder, log.entries)
    report = verify_export(folder, older=older)
    assert (report.ok, report.first_bad, report.entries, report.bad_range) == (False, 17, 17, None)
    assert codes(report) == ["missing_entries" if damage is truncated else "bad_entry"]


@pytest.mark.covers("R68")
@pytest.mark.parametrize("damage", [edited, swapped, deleted, inserted, moved], ids=lambda damage: damage.__name__)
def test_with_the_list_rewritten_too_the_range_is_named(tmp_path: Path, damage: Callable[[list[bytes]], None]) -> None:
    log = make()
    folder = log.write(tmp_path / "export")
    damage(log.entries)
    rewrite(folder, log.entries, hashes_too=True)
    report = verify_export(folder)
    assert (report.ok, report.first_bad, report.bad_range) == (False, None, (12, 20))
    assert codes(report)[0] == "list_rewritten"


@pytest.mark.covers("R68")
@pytest.mark.parametrize("damage", [deleted, truncated], ids=lambda damage: damage.__name__)
def test_a_longer_checkpoint_kept_elsewhere_hides_no_earlier_bad_entry(
    tmp_path: Path, damage: Callable[[list[bytes]], None]
) -> None:
    log = make()
    folder, kept = log.write(tmp_path / "export"), log.notes[-1]
    damage(log.entries)
    rewrite(folder, log.entries, hashes_too=True)
    report = verify_export(folder, older=kept)
    if damage is truncated:  # nothing before the cut was touched
        assert (report.ok, report.first_bad, report.bad_range) == (False, 17, None)
        return
    assert (report.ok, report.first_bad, report.bad_range) == (False, None, (12, 20))
    assert "rolled_back" in codes(report)
    assert told(report).splitlines()[-1] == "The first bad entry is one of 12 to 19."


@pytest.mark.covers("R68")
def test_an_older_checkpoint_narrows_where_a_rewritten_list_goes_wrong(tmp_path: Path) -> None:
    log = make()
    folder = log.write(tmp_path / "export")
    edited(log.entries)
    rewrite(folder, log.entries, hashes_too=True)
    kept = Log().grow(18).sign().notes[-1]
    report = verify_export(folder, older=kept)
    assert (report.first_bad, report.bad_range) == (None, (12, 18))


@pytest.mark.covers("R68")
def test_an_edit_before_a_rewritten_part_of_the_list_is_still_named_exactly(tmp_path: Path) -> None:
    log = make()
    folder = log.write(tmp_path / "export")
    hashes = bytearray((folder / "hashes").read_bytes())
    hashes[25 * 32] ^= 1
    (folder / "hashes").write_bytes(hashes)
    edited(log.entries)
    rewrite(folder, log.entries)
    report = verify_export(folder)
    assert (report.first_bad, report.bad_range) == (17, None)
    assert codes(report) == ["list_rewritten", "bad_entry"]


@pytest.mark.covers("R68")
def test_a_log_cut_off_with_its_list_misses_its_first_missing_entry(tmp_path: Path) -> None:
    log = make()
    folder = log.write(tmp_path / "export")
    rewrite(folder, log.entries[:20], hashes_too=True)
    report = verify_export(folder)
    assert (report.ok, report.first_bad, codes(report)) == (False, 20, ["hash_list_short"])
    assert "vouches" not in report.problems[0].message
    rewrite(folder, log.entries[:23], hashes_too=True)
    report = verify_export(folder)
    assert (report.first_bad, codes(report)) == (23, ["hash_list_short"])
    assert "20 to 22" in report.problems[0].message


@pytest.mark.covers("R68", "R73")
def test_only_an_older_checkpoint_sees_a_roll_back(tmp_path: Path) -> None:
    kept = make().notes[-1]
    rolled_back = Log().grow(5).sign().grow(7).sign().write(tmp_path / "export")
    assert verify_export(rolled_back).ok
    report = verify_export(rolled_back, older=kept)
    assert (report.ok, report.first_bad, codes(report)) == (False, 12, ["rolled_back"])
    assert "entry 12 is the first that is missing" in report.problems[0].message


@pytest.mark.covers("R68")
def test_only_an_older_checkpoint_sees_that_the_holder_of_the_keys_rewrote_the_log(tmp_path: Path) -> None:
    log = Log().grow(5)
    log.add(other=True)
    folder = log.sign().grow(24).sign().write(tmp_path / "export")
    alone = verify_export(folder, vkeys=[vkey(FIRST)])
    assert (alone.ok, alone.consistent_with_itself_only) == (True, True)
    report = verify_export(folder, older=OLDER)
    assert (report.ok, report.first_bad, report.bad_range, codes(report)) == (False, None, (0, 12), ["not_a_prefix"])


@pytest.mark.covers("R68")
def test_a_log_rewritten_under_another_key_is_no_log_of_ours(tmp_path: Path) -> None:
    log = Log(signers=(THIEF,), vkeys=[vkey(THIEF)])
    folder = log.grow(12).sign().grow(18).sign().write(tmp_path / "export")
    assert verify_export(folder).keys_from_export
    for report in (verify_export(folder, vkeys=[vkey(FIRST)]), verify_export(folder, vkeys=[vkey(FIRST)], older=OLDER)):
        assert not report.ok
        assert "no_checkpoint" in codes(report)
        assert "unknown_signer" in codes(report)
    assert "other_key" in codes(verify_export(folder, older=OLDER))


@pytest.mark.covers("R68", "R35")
@pytest.mark.parametrize("announced", ["keys.rotated", "keys.created"])
def test_a_key_that_only_forged_entries_announce_is_not_trusted(tmp_path: Path, announced: str) -> None:
    log = Log().grow(5).sign().add(announced, purpose="audit", key=key_id(THIEF), vkey=vkey(THIEF))
    log.vkeys.append(vkey(THIEF))
    folder = log.grow(6).sign(THIEF).write(tmp_path / "export")
    report = verify_export(folder, vkeys=[vkey(FIRST)])
    assert (report.ok, report.first_bad) == (False, 5)
    assert set(codes(report)) == {"unknown_signer", "unsigned_tail"}


@pytest.mark.covers("R68", "R35")
def test_a_rotation_is_followed_from_the_first_key(tmp_path: Path) -> None:
    log = make().rotate(FIRST, SECOND).sign().grow(3).sign().retire(FIRST).sign().grow(2).sign()
    log.rotate(SECOND, THIRD).sign().retire(SECOND).sign().grow(4).sign()
    log.vkeys = [vkey(key) for key in (FIRST, SECOND, THIRD)]
    folder = log.write(tmp_path / "export")
    for key in (
        FIRST,
        SECOND,
        THIRD,
    ):  # who knows the newest only: older notes say nothing that its signature does not cover
        report = verify_export(folder, vkeys=[vkey(key)])
        assert report.ok, report.problems
    assert verify_export(folder).ok
    assert verify_export(folder, older=OLDER, vkeys=[vkey(FIRST)]).ok


@pytest.mark.covers("R68", "R35")
def test_the_log_names_its_first_key_to_who_knows_the_newest(tmp_path: Path) -> None:
    log = Log().add("keys.created", purpose="audit", key=key_id(FIRST), vkey=vkey(FIRST)).grow(4).sign()
    kept = log.notes[-1]
    folder = log.rotate(FIRST, SECOND).sign().grow(3).sign(SECOND).write(tmp_path / "export")
    assert verify_export(folder, older=kept, vkeys=[vkey(SECOND)]).ok


@pytest.mark.covers("R68", "R35")
def test_a_rotation_that_the_old_key_did_not_sign_is_not_followed(tmp_path: Path) -> None:
    log = make().rotate(FIRST, SECOND).sign(SECOND).grow(3).sign(SECOND)
    folder = log.write(tmp_path / "export")
    report = verify_export(folder, vkeys=[vkey(FIRST)])
    assert (report.ok, report.first_bad) == (False, 30)


@pytest.mark.covers("R68", "R35")
def test_a_retired_key_no_longer_signs(tmp_path: Path) -> None:
    log = make().rotate(FIRST, SECOND).sign().retire(FIRST).sign()
    good = len(log.entries)
    forged = log.grow(3).sign(FIRST).write(tmp_path / "forged")
    report = verify_export(forged, vkeys=[vkey(FIRST)])
    assert (report.ok, report.first_bad) == (False, good)
    assert "unknown_signer" in codes(report)


@pytest.mark.covers("R35")
def test_a_retired_key_does_not_vouch_for_its_own_retirement_and_a_successor(tmp_path: Path) -> None:
    log = make().retire(FIRST).rotate(FIRST, THIEF).sign(FIRST)
    folder = log.grow(2).sign(THIEF).write(tmp_path / "export")
    report = verify_export(folder, vkeys=[vkey(FIRST)])
    assert (report.ok, report.first_bad) == (False, 30)


def test_other_keys_and_broken_announcements_introduce_nobody(tmp_path: Path) -> None:
    log = Log().add("keys.rotated", purpose="token", key="x", vkey=vkey(THIEF))
    log.add("keys.rotated", purpose="audit", key="x", vkey="no key").add("keys.rotated", purpose="audit", key="x")
    log.add("keys.retired", purpose="token", key=key_id(FIRST), overlap=False).add(
        "keys.retired", purpose="audit", key="x"
    )
    folder = log.sign().write(tmp_path / "good")
    assert verify_export(folder, vkeys=[vkey(FIRST)]).ok
    folder = log.grow(1).sign(THIEF).write(tmp_path / "bad")
    assert not verify_export(folder, vkeys=[vkey(FIRST)]).ok


@pytest.mark.covers("R68")
def test_an_older_checkpoint_of_another_log_is_told(tmp_path: Path) -> None:
    folder = make().write(tmp_path / "export")
    other = Log(origin="elsewhere.example/log").grow(12).sign().notes[0]
    assert codes(verify_export(folder, older=other)) == ["other_log"]
    forged = Log().grow(12).sign(THIEF).notes[0]
    assert codes(verify_export(folder, older=forged)) == ["other_key"]
    at = OLDER.rindex("=") - 4
    broken = OLDER[:at] + ("AAAA" if OLDER[at : at + 4] != "AAAA" else "BBBB") + OLDER[at + 4 :]
    assert codes(verify_export(folder, older=broken)) == ["bad_older"]


@pytest.mark.covers("R68", "R69")
def test_a_fork_is_told(tmp_path: Path) -> None:
    fork = Log().grow(3).add(other=True).grow(8).sign().notes[0]
    log = make()
    log.notes.insert(0, fork)
    report = verify_export(log.write(tmp_path / "export"))
    assert (report.ok, codes(report)) == (False, ["fork"])


def test_a_checkpoint_of_another_log_or_a_broken_one_is_told(tmp_path: Path) -> None:
    log = make()
    log.notes[:1] = [
        Log(origin="elsewhere.example/log").grow(5).sign().notes[0],
        "no note",
        log.notes[1].replace("at 1", "at 2"),
    ]
    folder = log.write(tmp_path / "export")
    with (folder / "checkpoints.jsonl").open("a") as file:
        file.write('{"note": 1}\n[]\nnonsense\n')
    assert codes(verify_export(folder)) == [
        "other_log",
        "bad_checkpoint",
        *["bad_checkpoint_line"] * 3,
        "bad_checkpoint",
    ]


def test_entries_beyond_the_last_checkpoint_are_told(tmp_path: Path) -> None:
    report = verify_export(make().grow(2).write(tmp_path / "export"))
    assert (report.first_bad, report.entries, codes(report)) == (30, 32, ["unsigned_tail"])


@pytest.mark.covers("R68")
def test_an_added_last_entry_and_an_unfinished_line_are_told(tmp_path: Path) -> None:
    log = make()
    folder = log.write(tmp_path / "export")
    rewrite(folder, [*log.entries, log.entries[0]])
    assert (verify_export(folder).first_bad, codes(verify_export(folder))) == (30, ["extra_entry"])
    (folder / "entries.jsonl").write_bytes(b"\n".join(log.entries))
    assert (verify_export(folder).first_bad, codes(verify_export(folder))) == (29, ["bad_entry"])


@pytest.mark.covers("R66")
def test_a_line_without_end_is_not_read_whole(tmp_path: Path) -> None:
    folder = make().write(tmp_path / "export")
    (folder / "entries.jsonl").write_bytes(b"x" * (MAX_LINE + 5))
    assert verify_export(folder).first_bad == 0


def test_a_list_that_ends_inside_a_hash_is_told(tmp_path: Path) -> None:
    folder = make().write(tmp_path / "export")
    (folder / "hashes").write_bytes((folder / "hashes").read_bytes()[:-1])
    report = verify_export(folder)
    assert (report.first_bad, codes(report)) == (29, ["hash_list_cut", "hash_list_short", "extra_entry"])


@pytest.mark.covers("T-01")
def test_nothing_signed_is_never_good(tmp_path: Path) -> None:
    empty = Log().sign().write(tmp_path / "empty")
    for trusted in ((), [vkey(THIEF)]):
        assert codes(verify_export(empty, vkeys=trusted)) == ["no_checkpoint"]
    unsigned = Log(vkeys=[]).grow(3).sign().write(tmp_path / "unsigned")
    assert "no_checkpoint" in codes(verify_export(unsigned))


@pytest.mark.covers("R72")
def test_texts_are_those_that_their_entries_are_bound_to(tmp_path: Path) -> None:
    log = Log().grow(2).say("Pagat e nëntorit").grow(2).say("Плате").sign()
    assert verify_export(log.write(tmp_path / "good")).ok
    for number, wrong in enumerate(
        [
            {"text": "Other"},
            {"event": "e00000"},
            {"name": "title"},
            {"salt_b64u": "AA"},
            {"salt_b64u": 1},
            {"event": []},
        ]
    ):
        log.texts[1] = {**log.texts[1], **wrong}  # type: ignore[dict-item] # wrong types are the point
        report = verify_export(log.write(tmp_path / f"bad{number}"))
        assert (report.ok, codes(report)) == (False, ["bad_text"])
        assert "line 2" in report.problems[0].message


@pytest.mark.covers("R72")
def test_deleted_texts_change_no_proof(tmp_path: Path) -> None:
    folder = Log().say("Pagat").say("Plate").sign().write(tmp_path / "export")
    (folder / "texts.jsonl").write_text("")
    assert verify_export(folder).ok
    (folder / "texts.jsonl").unlink()
    assert verify_export(folder).ok


def test_a_text_of_an_entry_that_is_no_leaf_is_told(tmp_path: Path) -> None:
    log = Log().say("Pagat")
    log.entries.append(b'{"texts":{"reason":"x"}}')
    log.entries.append(b'{"type":"keys.rotated"}')
    log.sign()
    assert verify_export(log.write(tmp_path / "one")).ok
    log.texts[0]["event"] = "e00001"
    assert codes(verify_export(log.write(tmp_path / "two"))) == ["bad_text"]


@pytest.mark.parametrize("name", ["entries.jsonl", "hashes", "checkpoint", "checkpoints.jsonl", "keys.json"])
def test_a_folder_without_a_file_is_no_export(tmp_path: Path, name: str) -> None:
    folder = make().write(tmp_path / "export")
    (folder / name).unlink()
    with pytest.raises(ProofError) as caught:
        verify_export(folder)
    assert caught.value.reason == "not_an_export"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"origin": "x"}', '{"origin": "x", "vkeys": 1}', "[" * 100_000])
def test_a_folder_with_broken_keys_is_no_export(tmp_path: Path, content: str) -> None:
    folder = make().write(tmp_path / "export")
    (folder / "keys.json").write_text(content)
    with pytest.raises(ProofError) as caught:
        verify_export(folder)
    assert caught.value.reason == "not_an_export"


def test_what_the_caller_gives_must_be_what_it_should_be(tmp_path: Path) -> None:
    folder = make().write(tmp_path / "export")
    with pytest.raises(ProofError) as caught:
        verify_export(folder, vkeys=["no key"])
    assert caught.value.reason == "bad_vkey"
    for note in ("", "text\n", "text\n\n— name AAAAAAAA\n"):
        with pytest.raises(ProofError):
            verify_export(folder, older=note)


@pytest.mark.covers("R70")
def test_the_verifier_stands_on_proof_alone(tmp_path: Path) -> None:
    """Copied out with nothing but the lowest room, it works: no database, no web, no settings."""
    package = Path(jitaccess.audit.verify.__file__).parents[1]
    alone = tmp_path / "jitaccess"
    shutil.copytree(package / "proof", alone / "proof", ignore=shutil.ignore_patterns("__pycache__"))
    (alone / "audit").mkdir()
    for name in ("__init__.py", "audit/__init__.py", "audit/verify.py"):
        shutil.copy(package / name, alone / name)
    folder = make().write(tmp_path / "export")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from jitaccess.audit import verify\n"
        "assert verify.__file__.startswith(sys.argv[1]); assert verify.verify_export(Path(sys.argv[2])).ok\n"
        "assert not {'flask', 'sqlalchemy', 'pydantic', 'webauthn'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, tmp_path, folder], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
