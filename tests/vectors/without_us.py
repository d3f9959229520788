"""Does an approval hold, and is its entry under a signed checkpoint? A sample of a checker that is not ours.

Only the standard library and `cryptography`; run as `python without_us.py evidence.json`, or `approval_set.json` for approvals that
were signed as one set. Prints what was signed; exit code 1
and the reason when something does not hold. Specs: WebAuthn Level 3 section 7.2, RFC 9162 section 2.1.3.2, C2SP signed-note.
"""

import base64
import hashlib
import json
import sys

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key


def b64u(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def sha256(data):
    return hashlib.sha256(data).digest()


def need(holds, words):
    if not holds:
        raise ValueError(words)


def check_approval(evidence):
    """Return the statement when the passkey signed exactly these bytes, on this site, present and verified."""
    check_signature(evidence, b"jitaccess/approval/v1", evidence["statement"].encode())
    return [json.loads(evidence["statement"])]


def check_set(evidence):
    """Return every statement of a set when the passkey signed the list of their digests, and lists exactly these."""
    check_signature(evidence, b"jitaccess/approval-set/v1", evidence["set_statement"].encode())
    listed = json.loads(evidence["set_statement"])
    need([b64u(one) for one in listed["approvals"]] == [sha256(one.encode()) for one in evidence["statements"]],
         "the set lists other approvals")  # fmt: skip
    singles = [json.loads(one) for one in evidence["statements"]]
    for single in singles:
        same = all(single[name] == listed[name] for name in ("instance", "log_origin", "approver", "credential_id"))
        need(same and single["verdict"] == "approve", "the set is another person's")
    return singles


def check_signature(evidence, tag, statement):
    """Check that the passkey signed exactly these bytes for this purpose, on this site, present and verified."""
    client = b64u(evidence["assertion"]["client_data_json"])
    data = b64u(evidence["assertion"]["authenticator_data"])
    said = json.loads(client)
    need(said["type"] == "webauthn.get", "not an assertion")
    need(b64u(said["challenge"]) == sha256(tag + b"\x00" + statement), "signed something else")
    need(said["origin"] == evidence["origin"] and not said.get("crossOrigin"), "signed elsewhere")
    need(data[:32] == sha256(evidence["rp_id"].encode()), "signed for another site")
    need(data[32] & 0x05 == 0x05, "person not present or not verified")
    key = load_der_public_key(b64u(evidence["public_key_der"]))
    key.verify(b64u(evidence["assertion"]["signature"]), data + sha256(client), ECDSA(SHA256()))


def check_entry(evidence):
    """Check that the entry is under the signed checkpoint."""
    text, _, signatures = evidence["checkpoint"].rpartition("\n\n")
    origin, size, root = text.split("\n")[:3]
    name, key_id, encoded = evidence["vkey"].split("+", 2)
    signed = base64.b64decode(signatures.split(" ")[2])
    need(name == origin and signed[:4].hex() == key_id, "signed by another key")
    Ed25519PublicKey.from_public_bytes(base64.b64decode(encoded)[1:]).verify(signed[4:], (text + "\n").encode())
    node, fn, sn = sha256(b"\x00" + evidence["leaf"].encode()), evidence["index"], int(size) - 1
    for step in map(b64u, evidence["path"]):
        need(sn > 0, "the path is too long")
        if fn & 1 or fn == sn:
            node = sha256(b"\x01" + step + node)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = sha256(b"\x01" + node + step)
        fn, sn = fn >> 1, sn >> 1
    need(sn == 0 and node == base64.b64decode(root), "the entry is not in that tree")


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        given = json.load(file)
    try:
        if "set_statement" in given:
            signed = check_set(given)
        else:
            signed = check_approval(given)
            check_entry(given)
    except Exception as error:  # a sample's one door: say it and fail
        sys.exit(f"does not hold: {error or type(error).__name__}")
    for statement in signed:
        print(statement["approver"], statement["verdict"], statement["request_id"])
