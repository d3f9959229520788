"""Which port is free? Below the ephemeral range (32768 and up), where a client could take it away."""

import random
import socket


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free a moment ago, between 20000 and 31999."""
    for _ in range(200):
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port between 20000 and 31999")
