"""A TCP proxy that fails on purpose: it loses a reply before or after the target's commit, holds one back, hangs, flaps, is away.

It stands in front of a PostgreSQL without TLS and knows of the protocol only where a reply is whole: at ReadyForQuery, the message `Z`
of five bytes and one for the state (PostgreSQL documentation, 55.7). Everything else passes as it is.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum

PIECE = 64 * 1024
READY = b"Z\x00\x00\x00\x05"
WAIT_S = 30.0


class Mode(StrEnum):
    """What happens to a new connection."""

    PASS = "pass"
    DOWN = "down"
    """Closed at once."""
    HANG = "hang"
    """Taken, and never answered."""
    FLAP = "flap"
    """Closed at once, every other one."""


class Loss(StrEnum):
    """What happens to the one request that holds certain words."""

    BEFORE = "before"
    """It never arrives."""
    AFTER = "after"
    """It arrives and is done; the reply is lost."""
    LATE = "late"
    """The client loses its connection now; the request arrives when `deliver` is called."""
    SILENT = "silent"
    """It never arrives, and the connection stays open: the client waits."""


class CuttingProxy:
    """Listens on a free port of 127.0.0.1."""

    def __init__(self, upstream: int, whole: Callable[[bytes], bool] | None = None) -> None:
        self._upstream = upstream
        self._whole = whole or _whole
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._mode = Mode.PASS
        self._guard = threading.Lock()
        self._open: set[socket.socket] = set()
        self._armed: tuple[Callable[[bytes], bool], Loss] | None = None
        self._held: list[tuple[_Link, bytes]] = []
        self._taken = 0
        self.fired = threading.Event()
        """Set once the armed loss has happened."""
        threading.Thread(target=self._accept, daemon=True).start()

    # -- orders

    def become(self, mode: Mode) -> None:
        """Break what is open, and treat new connections so."""
        with self._guard:
            self._mode = mode
            broken, self._open = self._open, set()
        for one in broken:
            _break(one)

    def arm(self, request: bytes | Callable[[bytes], bool], loss: Loss) -> None:
        """Lose the next request that holds these words, or that is like this; once."""
        with self._guard:
            self._armed = (request if callable(request) else lambda piece: request in piece, loss)
        self.fired.clear()

    def disarm(self) -> None:
        """Lose nothing; forget what is held."""
        with self._guard:
            self._armed = None
            held, self._held = self._held, []
        for link, _ in held:
            _break(link.server)

    def deliver(self) -> bytes:
        """Hand the held request to the target; return its whole reply."""
        with self._guard:
            link, request = self._held.pop()
        link.server.sendall(request)
        assert link.came.wait(WAIT_S), "the target does not answer"
        _break(link.server)
        return link.reply

    def close(self) -> None:
        """Stop listening and break everything."""
        self._listener.close()
        self.disarm()
        self.become(Mode.DOWN)

    # -- connections

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._guard:
                self._taken += 1
                mode = self._mode
                self._open.add(client)
            if mode is Mode.DOWN or (mode is Mode.FLAP and self._taken % 2):
                _break(client)
            elif mode is not Mode.HANG:
                self._join(client)

    def _join(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._upstream))
        except OSError:
            _break(client)
            return
        with self._guard:
            self._open.add(server)
        link = _Link(client, server)
        threading.Thread(target=self._forward, args=(link,), daemon=True).start()
        threading.Thread(target=self._back, args=(link,), daemon=True).start()

    def _forward(self, link: "_Link") -> None:
        """Carry requests; lose the armed one."""
        with suppress(OSError):
            while piece := link.client.recv(PIECE):
                loss = self._loss_of(piece)
                if loss is Loss.LATE:
                    with self._guard:
                        link.late = True
                        self._held.append((link, piece))
                        self._open.discard(link.server)
                if loss is Loss.SILENT:
                    self.fired.set()
                    link.mute = True
                if link.mute:
                    continue
                if loss in (Loss.LATE, Loss.BEFORE):
                    self.fired.set()
                    break
                link.swallow = loss is Loss.AFTER
                link.server.sendall(piece)
        link.part()

    def _loss_of(self, piece: bytes) -> Loss | None:
        with self._guard:
            if self._armed is None or not self._armed[0](piece):
                return None
            loss, self._armed = self._armed[1], None
            return loss

    def _back(self, link: "_Link") -> None:
        """Carry replies; keep the one that is to be lost, whole, or that of a request which came late."""
        with suppress(OSError):
            while piece := link.server.recv(PIECE):
                if not (link.swallow or link.late):
                    link.client.sendall(piece)
                    continue
                link.reply += piece
                if self._whole(link.reply):
                    self.fired.set()
                    link.came.set()
                    break
        link.part()


class _Link:
    """The two ends of one connection."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.swallow = False
        self.mute = False
        self.late = False
        self.reply = b""
        self.came = threading.Event()

    def part(self) -> None:
        _break(self.client)
        if not self.late:
            _break(self.server)


def _whole(reply: bytes) -> bool:
    return reply[-6:-1] == READY


def _break(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
