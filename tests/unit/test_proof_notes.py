"""Who signed a note, what does a checkpoint say, and which spellings of either are refused?"""

import base64
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jitaccess.proof.checkpoint import Checkpoint, open_checkpoint, unverified_checkpoint
from jitaccess.proof.errors import ProofError
from jitaccess.proof.merkle import EMPTY_ROOT
from jitaccess.proof.notes import MAX_NOTE_BYTES, VerifierKey, open_note, sign_note, text_of

# The published example of golang.org/x/mod/sumdb/note, which C2SP signed-note describes.
PUBLISHED_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PUBLISHED_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PUBLISHED_NOTE = (
    PUBLISHED_TEXT
    + "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SECOND = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
ORIGIN = "example.org/log"
CHECKPOINT = Checkpoint(ORIGIN, 42, bytes(range(32)), 1_795_424_400)


def vkey(key: Ed25519PrivateKey, name: str = ORIGIN) -> VerifierKey:
    return VerifierKey(name, key.public_key().public_bytes_raw())


def reason_of(note: str, *keys: VerifierKey) -> str:
    with pytest.raises(ProofError) as caught:
        open_note(note, keys)
    return caught.value.reason


@pytest.mark.covers("R67")
def test_the_published_note_opens_with_the_published_key() -> None:
    key = VerifierKey.parse(PUBLISHED_KEY)
    assert (key.name, key.key_id.hex(), key.to_text()) == ("PeterNeumann", "c74f20a3", PUBLISHED_KEY)
    assert open_note(PUBLISHED_NOTE, [key]) == (PUBLISHED_TEXT, (key,))


@pytest.mark.covers("R67")
def test_a_note_opens_with_each_of_its_signers_keys() -> None:
    note = sign_note("text\n\nmore\n\n", ORIGIN, KEY, SECOND)
    assert open_note(note, [vkey(KEY)]) == ("text\n\nmore\n\n", (vkey(KEY),))
    assert open_note(note, [vkey(SECOND), vkey(KEY)])[1] == (vkey(KEY), vkey(SECOND))
    assert text_of(note) == "text\n\nmore\n\n"


def test_one_signature_twice_is_one_signer() -> None:
    note = sign_note("text\n", ORIGIN, KEY, KEY)
    assert open_note(note, [vkey(KEY)])[1] == (vkey(KEY),)


@pytest.mark.covers("R67")
def test_unknown_signers_do_not_count() -> None:
    note = sign_note("text\n", ORIGIN, KEY)
    assert reason_of(note, vkey(SECOND)) == "unknown_signer"
    assert reason_of(note, vkey(KEY, "another.name")) == "unknown_signer"
    assert reason_of(note) == "unknown_signer"
    assert open_note(note + "— witness AAAAAAAA\n", [vkey(KEY)])[1] == (vkey(KEY),)


@pytest.mark.covers("R67")
def test_a_known_key_whose_signature_does_not_hold_spoils_the_note() -> None:
    note = sign_note("text\n", ORIGIN, KEY, SECOND)
    assert reason_of(note.replace("text", "test"), vkey(KEY)) == "bad_signature"
    cut = base64.b64encode(vkey(KEY).key_id + bytes(63)).decode()
    assert (
        reason_of(sign_note("text\n", ORIGIN, SECOND) + f"— {ORIGIN} {cut}\n", vkey(SECOND), vkey(KEY))
        == "bad_signature"
    )


@pytest.mark.parametrize(
    "note",
    [
        "", "text\n", "text\n\n— name", "text\n\nname AAAA\n", "text\n\n— name\n", "text\n\n— name !\n",
        "text\n\n— na+me AAAA\n", "text\n\n— name é\n", "te\tt\n\n— name AAAA\n", "te\ud800\n\n— name AAAA\n",
        "text\n\n— name AAAA\u2028— name AAAA\n", "x" * MAX_NOTE_BYTES + "\n\n— name AAAA\n",
    ],
)  # fmt: skip
def test_what_is_not_written_as_a_note_is_refused(note: str) -> None:
    assert reason_of(note, vkey(KEY)) == "bad_note"


@pytest.mark.parametrize(
    ("text", "name"), [("text", "n"), ("a\tb\n", "n"), ("text\n", ""), ("text\n", "a b"), ("text\n", "a+b")]
)
def test_what_could_not_be_read_again_is_not_signed(text: str, name: str) -> None:
    with pytest.raises(ProofError, match="newline"):
        sign_note(text, name, KEY)
    with pytest.raises(ProofError, match="a key"):
        sign_note("text\n", "n")


@pytest.mark.parametrize(
    "text",
    [
        "", "name", "name+00000000", PUBLISHED_KEY.replace("c74f20a3", "c74f20a4"), PUBLISHED_KEY.replace("c74f", "C74F"),
        PUBLISHED_KEY.replace("ARpc", "Axpc"), PUBLISHED_KEY[:-4], PUBLISHED_KEY + "!", "na me" + PUBLISHED_KEY[12:],
        PUBLISHED_KEY[12:],
    ],
)  # fmt: skip
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(ProofError) as caught:
        VerifierKey.parse(text)
    assert caught.value.reason == "bad_vkey"


@pytest.mark.covers("R67", "R74")
def test_a_checkpoint_is_written_as_c2sp_says_and_read_back() -> None:
    assert CHECKPOINT.to_text() == f"{ORIGIN}\n42\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\nat 1795424400\n"
    pilot = replace(CHECKPOINT, pilot=True)
    assert pilot.to_text() == CHECKPOINT.to_text() + "pilot\n"
    for point in (CHECKPOINT, pilot, Checkpoint(ORIGIN, 0, EMPTY_ROOT, 0)):
        note = point.sign(KEY)
        assert open_checkpoint(note, [vkey(KEY)]) == unverified_checkpoint(note) == point


@pytest.mark.covers("R67")
def test_a_checkpoint_counts_only_in_the_name_of_its_log() -> None:
    note = sign_note(CHECKPOINT.to_text(), "another.name", KEY)
    with pytest.raises(ProofError) as caught:
        open_checkpoint(note, [vkey(KEY, "another.name")])
    assert caught.value.reason == "unknown_signer"


@pytest.mark.covers("R67")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n42\n", "\n042\n"), ("\n42\n", "\n+42\n"), ("\n42\n", "\n٤٢\n"), ("\n42\n", f"\n{'9' * 17}\n"), ("at 1", "at -1"),
        ("at ", "at"), ("at ", "on "), ("at 1795424400\n", "at 1795424400\nextra\n"), ("at 1795424400\n", ""),
        ("at 1795424400\n", "at 1795424400\npilot\npilot\n"), (f"{ORIGIN}\n", "\n"), ("Hh8=", "Hh9="), ("Hh8=", "!"), ("Hh8=", ""),
        ("at 1795424400\n", "at 1795424400"),
    ],
)  # fmt: skip
def test_other_spellings_of_a_checkpoint_are_refused(old: str, new: str) -> None:
    assert old in CHECKPOINT.to_text()
    with pytest.raises(ProofError) as caught:
        Checkpoint.parse(CHECKPOINT.to_text().replace(old, new, 1))
    assert caught.value.reason == "bad_checkpoint"
