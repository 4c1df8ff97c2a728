"""A line between two processes that a scenario may cut, stall and delay."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Literal, final

Direction = Literal["forth", "back"]


@final
class TcpProxy:
    """Passes bytes from a free port of this machine to another, in a thread of its own.

    Attributes:
        port: Where it listens.
        delay_s: How long every piece is held.
        held: Directions in which nothing passes. Connections stay open, so that neither end notices.
        refusing: Whether new connections are closed at once.
        silent: Whether new connections are accepted and never answered.
    """

    def __init__(self, target_port: int, *, target_host: str = "127.0.0.1") -> None:
        self.delay_s = 0.0
        self.held: set[Direction] = set()
        self.refusing = False
        self.silent = False
        self._target = (target_host, target_port)
        self._open: set[asyncio.StreamWriter] = set()
        self._hung: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = int(self._server.sockets[0].getsockname()[1])
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Close all connections, and refuse new ones until `heal`."""
        self.refusing = True
        self._loop.call_soon_threadsafe(self._close_all)

    def stall(self, *directions: Direction) -> None:
        """Let nothing pass in these directions, in both if none is named, until `heal`; new connections hang too."""
        self.held = set(directions or ("forth", "back"))
        self.silent = True

    def heal(self) -> None:
        """Let everything pass. What was held passes now, and new connections that hung are closed."""
        hung = self.silent
        self.refusing, self.silent, self.delay_s, self.held = False, False, 0.0, set()
        if hung:
            # a new connection was accepted in the place of the target: only a new one can reach it
            self._loop.call_soon_threadsafe(self._close_hung)

    def close(self) -> None:
        """End."""

        def stop() -> None:
            self._server.close()
            self._close_all()
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.call_later(0.1, self._loop.stop)

        self._loop.call_soon_threadsafe(stop)
        self._thread.join()
        self._loop.close()

    def _close_all(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    def _close_hung(self) -> None:
        for writer in self._hung:
            writer.transport.abort()
        self._hung.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if self.refusing:
                return
            if self.silent:
                self._hung.add(writer)
                while not writer.transport.is_closing():  # noqa: ASYNC110 - a heal ends many waits
                    await asyncio.sleep(0.1)
                return
            try:
                there_reader, there_writer = await asyncio.open_connection(*self._target)
            except OSError:
                return
            self._open.add(there_writer)
            try:
                forth = asyncio.ensure_future(self._pass(reader, there_writer, "forth"))
                back = asyncio.ensure_future(self._pass(there_reader, writer, "back"))
                _, pending = await asyncio.wait({forth, back}, return_when=asyncio.FIRST_COMPLETED)
                for task in pending:
                    task.cancel()
                await asyncio.gather(*pending, return_exceptions=True)
            finally:
                self._open.discard(there_writer)
                there_writer.transport.abort()
        except asyncio.CancelledError:
            return
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                while direction in self.held:  # noqa: ASYNC110 - a heal ends many waits
                    await asyncio.sleep(0.05)
                writer.write(data)
                await writer.drain()
