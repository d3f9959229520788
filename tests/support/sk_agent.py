"""A security key for ssh without a device: an agent that holds one `sk-ssh-ed25519` key and answers as touched and verified.

The agent protocol is draft-ietf-sshm-ssh-agent; what is signed is in PROTOCOL.u2f of OpenSSH.
"""

import hashlib
import socket
import struct
import threading
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from jitaccess.connectors.ssh_ca.wire import Reader, line_of, string

KIND, APPLICATION = b"sk-ssh-ed25519@openssh.com", b"ssh:"
PRESENT, VERIFIED = 1, 4


class SkAgent:
    """Listens on a Unix socket."""

    def __init__(self, socket_file: Path, flags: int = PRESENT | VERIFIED) -> None:
        self._key = Ed25519PrivateKey.generate()
        self._flags = flags
        raw = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.blob = string(KIND) + string(raw) + string(APPLICATION)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(socket_file))
        self._socket.listen()
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def line(self) -> str:
        """The public key."""
        return line_of(self.blob)

    def close(self) -> None:
        """Listen no more."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as stream:
                while head := stream.read(4):
                    answer = self._answer(stream.read(int.from_bytes(head)))
                    stream.write(string(answer))
                    stream.flush()

    def _answer(self, asked: bytes) -> bytes:
        match asked[0]:
            case 11:  # which identities are there?
                return bytes([12]) + struct.pack(">I", 1) + string(self.blob) + string(b"sk")
            case 13:  # sign this
                reader = Reader(asked[1:])
                reader.string()
                message, tail = reader.string(), struct.pack(">BI", self._flags, 1)
                signed = hashlib.sha256(APPLICATION).digest() + tail + hashlib.sha256(message).digest()
                return bytes([14]) + string(string(KIND) + string(self._key.sign(signed)) + tail)
            case _:
                return bytes([5])
