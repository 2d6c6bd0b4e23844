"""`lapwing connect` on a terminal: typed lines go to the server, its messages are shown above the prompt."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_toolkit.patch_stdout import patch_stdout

import lapwing
from lapwing.protocol import parse_url

from . import connecting, orders
from .closing import status_of, words
from .display import Display
from .notices import ping_in_words, show_frames
from .outcome import Failed, Status
from .prompt import Prompt, open_history

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable

    from lapwing import AsyncClient, Reconnection

__all__ = ["Session"]

#: Seconds to wait for a pong, and for the server's close frame when the session ends.
_PATIENCE = 10.0
_PARTING = 2.0


class Session:
    """One run of the session, of one connection after the other."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._url, self._options = connecting.target(arguments)
        self._shown_url = str(parse_url(self._url))  # without user name and password
        self._ws: AsyncClient | None = None
        self._talking: asyncio.Task[None] | None = None
        self._has_begun = asyncio.Event()
        self._is_closing = False  # whether it is this end that closes
        self._status = Status.OK
        self._last: str | bytes | None = None
        self._display: Display
        self._prompt: Prompt

    def run(self) -> int:
        """Talk, and return the exit status."""
        return asyncio.run(self._run())

    async def _run(self) -> Status:
        history, complaint = open_history(kept=not self._arguments.no_history)
        self._prompt = Prompt(history, self._toolbar)
        with patch_stdout(raw=True):
            self._display = Display(
                sys.stdout, timestamps=self._arguments.timestamps, pretty=not self._arguments.no_pretty
            )
            if self._arguments.verbose or self._arguments.show_ping_pong:
                show_frames(
                    self._display.control if self._arguments.verbose else None,
                    self._on_ping if self._arguments.show_ping_pong else None,
                )
            if complaint is not None:
                self._display.notice(complaint)
            first = None if self._arguments.reconnect else await self._open()
            self._talking = asyncio.create_task(self._talk(first))
            self._talking.add_done_callback(lambda _: self._has_begun.set())
            try:
                # The prompt is drawn once there is something above it: its lines would be left over otherwise.
                await self._has_begun.wait()
                return await self._converse()
            finally:
                await self._leave()

    # --- the connection ------------------------------------------------------------------------------------------

    async def _open(self) -> AsyncClient:
        with connecting.explained(self._arguments):
            return await lapwing.connect(self._url, **self._options)

    async def _talk(self, first: AsyncClient | None) -> None:
        """Receive, from one connection or, where that was asked for, from one after the other."""
        try:
            if not self._arguments.reconnect:
                await self._receive(first or await self._open())
                return
            how = lapwing.Reconnect(on_attempt=self._on_attempt)
            with connecting.explained(self._arguments):
                async for ws in lapwing.connect(self._url, reconnect=how, **self._options):
                    await self._receive(ws)
                    if self._is_closing:
                        return
        except Failed as failed:
            self._status = failed.status
            self._display.error(str(failed))
        except lapwing.ConnectionClosed:  # and that was said: connecting again would not help
            self._display.notice("not reconnecting after this close code; /reconnect connects again")

    async def _receive(self, ws: AsyncClient) -> None:
        self._ws = ws
        subprotocol = f", subprotocol {ws.subprotocol}" if ws.subprotocol else ""
        self._display.control(f"connected to {self._shown_url}{subprotocol} (/help)")
        self._has_begun.set()
        self._prompt.refresh()
        try:
            while (message := await ws.receive()) is not None:
                self._last = message
                self._display.message("received", message)
            closed = await ws.close()
        finally:
            self._ws = None
            self._prompt.refresh()
        self._status = Status.OK if self._is_closing and closed.was_clean else status_of(closed)
        next_step = "" if self._is_closing or self._arguments.reconnect else "; /reconnect connects again"
        self._display.control(f"{words(closed)}{next_step}")

    def _on_ping(self, kind: str, payload: bytes) -> None:
        self._display.control(ping_in_words(kind, payload))

    def _on_attempt(self, attempt: Reconnection) -> None:
        self._display.notice(f"connecting again in {attempt.delay:.1f} s: {connecting.cause(attempt.cause)}")
        self._has_begun.set()

    async def _end(self, code: int = 1000, reason: str = "", *, timeout: float | None = None) -> None:
        """Close the connection, and stop connecting again."""
        self._is_closing = True
        if self._ws is not None:
            with contextlib.suppress(TimeoutError):
                await self._ws.close(code, reason, timeout=timeout)
        elif self._talking is not None:
            self._talking.cancel()
        if self._talking is not None:
            await asyncio.wait({self._talking}, timeout=timeout)

    async def _leave(self) -> None:
        await self._end(timeout=_PARTING)
        if self._talking is not None:
            self._talking.cancel()
            await asyncio.gather(self._talking, return_exceptions=True)

    # --- typed lines -------------------------------------------------------------------------------------------

    async def _converse(self) -> Status:
        """Carry out the typed lines until the end of input."""
        prompting = asyncio.ensure_future(self._prompt.run())
        working = asyncio.ensure_future(self._work())
        try:
            await asyncio.wait({prompting, working}, return_when=asyncio.FIRST_COMPLETED)
            if prompting.done() and not prompting.result():
                return Status.INTERRUPTED
            # After Ctrl-D, earlier lines are still carried out.
            await asyncio.wait({working}, timeout=_PATIENCE)
        finally:
            self._prompt.stop()
            await prompting
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        await self._end(timeout=_PARTING)
        return self._status

    async def _work(self) -> None:
        """Carry out the typed lines, one after the other."""
        while (line := await self._prompt.lines.get()) is not None:
            try:
                order = orders.order_in(line)
                if order == orders.Order("quit", ""):
                    return
                if isinstance(order, orders.Order):
                    await self._orders()[order.name](order.rest)
                elif order:
                    await self._send(order)
            except (Failed, TypeError, ValueError) as error:
                self._display.error(str(error))
            except TimeoutError:
                self._display.error(f"no answer within {_PATIENCE:g} s")
            except lapwing.ConnectionClosed:
                self._display.error("the connection is closed: the message was not sent")

    def _orders(self) -> dict[str, Callable[[str], Awaitable[None]]]:
        return {
            "help": self._help,
            "ping": self._ping,
            "close": self._close,
            "reconnect": self._reconnect,
            "text": self._text,
            "binary": self._binary,
            "save": self._save,
            "pretty": self._set_pretty,
            "timestamps": self._set_timestamps,
            "info": self._info,
            "quit": self._quit,
        }

    def _open_one(self) -> AsyncClient:
        if self._ws is None:
            raise Failed("not connected: /reconnect connects again, Ctrl-D quits")
        return self._ws

    async def _send(self, message: str | bytes) -> None:
        ws = self._open_one()
        self._display.message("sent", message)  # before the answer to it can come
        await ws.send(message)

    async def _help(self, _rest: str) -> None:
        self._display.table(orders.help_lines())

    async def _ping(self, rest: str) -> None:
        seconds = await self._open_one().ping(rest or None, timeout=_PATIENCE)
        self._display.control(f"pong after {seconds * 1000:.2f} ms")
        self._prompt.refresh()

    async def _close(self, rest: str) -> None:
        code, reason = orders.close_arguments(rest)
        self._open_one()
        await self._end(code, reason)

    async def _reconnect(self, _rest: str) -> None:
        await self._end(timeout=_PARTING)
        self._is_closing = False
        self._talking = asyncio.create_task(self._talk(None))

    async def _text(self, rest: str) -> None:
        if not rest.startswith("@"):
            await self._send(rest)
            return
        try:
            await self._send(orders.file_contents(rest[1:]).decode())
        except UnicodeDecodeError:
            raise Failed(f"{rest[1:]} is not UTF-8: /binary {rest} sends its bytes") from None

    async def _binary(self, rest: str) -> None:
        await self._send(orders.contents(rest))

    async def _save(self, rest: str) -> None:
        if not rest:
            raise Failed("/save: expected the name of a file")
        if self._last is None:
            raise Failed("/save: no message has arrived yet")
        data = self._last.encode() if isinstance(self._last, str) else self._last
        _write(rest, data)
        self._display.notice(f"{len(data):,} bytes in {rest}")

    async def _set_pretty(self, rest: str) -> None:
        self._display.pretty = _switch("/pretty", rest)

    async def _set_timestamps(self, rest: str) -> None:
        self._display.timestamps = _switch("/timestamps", rest)

    async def _quit(self, rest: str) -> None:
        raise Failed(f"/quit takes no argument, got {rest}")

    async def _info(self, _rest: str) -> None:
        ws = self._open_one()
        stats = ws.stats()
        compression = None if ws.response is None else ws.response.headers.get("Sec-WebSocket-Extensions")
        tls = None if ws.ssl_object is None else f"{ws.ssl_object.version()}, {(ws.ssl_object.cipher() or ['?'])[0]}"
        facts = {
            "url": self._shown_url,
            "peer": ":".join(map(str, (ws.peer_address or ("a unix socket",))[:2])),
            "TLS": tls or "none",
            "subprotocol": ws.subprotocol or "none",
            "extensions": compression or "none",
            "age": f"{stats.age:.1f} s",
            "received": f"{stats.messages_received:,} messages, {stats.payload_received:,} bytes",
            "sent": f"{stats.messages_sent:,} messages, {stats.payload_sent:,} bytes",
            "round trip": "unknown: /ping" if stats.latency is None else f"{stats.latency * 1000:.2f} ms",
        }
        self._display.table(list(facts.items()))

    def _toolbar(self) -> str:
        if self._ws is None:
            return f" {self._shown_url}  not connected"
        latency = self._ws.latency
        round_trip = "" if latency is None else f"  {latency * 1000:.2f} ms"
        return f" {self._shown_url}  connected{round_trip}"


def _switch(order: str, rest: str) -> bool:
    if rest not in ("on", "off"):
        raise Failed(f"{order}: expected on or off, got {rest or 'nothing'}")
    return rest == "on"


def _write(name: str, data: bytes) -> None:
    try:
        with Path(name).expanduser().open("xb") as file:
            file.write(data)
    except OSError as error:
        raise Failed(f"cannot write to {name}: {error.strerror}") from None
