"""A stream of JetStream, as its interface has it: requests, direct gets, and the entries that come of them."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..position import LIMIT
from . import nats_protocol as wire
from .nats_link import NoResponders

if TYPE_CHECKING:
    from .nats_link import Link
    from .nats_protocol import Delivered

__all__ = ["ANCHOR", "ApiError", "Gone", "JetStream", "Stored", "moment_of", "object_of", "stored_of"]

#: Headers of ours: of an anchor the position that it stands for, 0 for its own; of a message the seconds it is kept.
ANCHOR: Final = b"Lapwing-Anchor"
_KEEP: Final = b"Lapwing-Keep"
#: Errors of JetStream by its numbers: there is no such stream, no such message.
_NO_STREAM: Final = 10059
_NO_MESSAGE: Final = 10037
#: Seconds for the answer to a question, at most.
_MOST_PATIENCE: Final = 2.0


class Gone(ConnectionError):  # noqa: N818 - answered by making it again
    """The stream does not exist, or not yet."""

    def __str__(self) -> str:
        return "the stream does not exist"


class ApiError(ConnectionError):
    """JetStream has answered with an error.

    Attributes:
        number: its own number for it.
    """

    def __init__(self, action: str, error: dict[str, Any]) -> None:
        super().__init__(f"JetStream, {action}: {error.get('description')!s:.200}")
        self.number = error.get("err_code")


class Stored(NamedTuple):
    """An entry of a subject.

    Attributes:
        sequence: its number.
        at: when it was stored, in seconds since 1970, by the server's clock.
        anchor: of an anchor, the position that it stands for; None for a message.
        keep: seconds for which the message is kept, at least.
        payload: its bytes.
        subject: where it was published.
    """

    sequence: int
    at: float
    anchor: int | None
    keep: float
    payload: bytes
    subject: str = ""

    @property
    def position(self) -> int:
        """Its position."""
        return self.sequence if self.anchor is None else self.anchor


class JetStream:
    """One stream.

    Args:
        name: its name.
        link: leads to the server.
        patience: seconds that an answer may take.
    """

    def __init__(self, name: str, link: Link, patience: float) -> None:
        self.name = name
        self._link = link
        self._patience = patience
        #: For questions, which may be asked again: a server without a leader does not answer at all.
        self._short_patience = min(patience, _MOST_PATIENCE)

    async def _api(self, action: str, **body: Any) -> dict[str, Any]:
        """Ask JetStream, and take over the server's time from the answer.

        Raises:
            Gone: the stream does not exist.
            ApiError: it answers with an error.
            ConnectionError: there is no answer.
        """
        subject = f"$JS.API.STREAM.{action}.{self.name}"
        asked_at = time.monotonic()
        try:
            asked = json.dumps(body).encode() if body else b""
            delivered = await self._link.request(subject.encode(), asked, self._short_patience)
        except NoResponders:
            raise ConnectionError("JetStream is not enabled: start nats-server with -js") from None
        except TimeoutError:
            said = self._link.complaint
            raise ConnectionError(f"JetStream does not answer ({action}){said and ': '}{said}") from None
        answer = object_of(delivered.payload)
        error = answer.get("error")
        if isinstance(error, dict):
            if error.get("err_code") == _NO_STREAM:
                raise Gone
            raise ApiError(action, error)
        told_at = answer.get("ts")
        if isinstance(told_at, str):
            with suppress(ValueError):
                self._link.learn_time(moment_of(told_at), asked_at)
        return answer

    async def _ask_once(self, subject: bytes, payload: bytes) -> Delivered:
        """Publish to the stream, and wait for its answer.

        Raises:
            Gone: the stream does not exist.
            ConnectionError: there is no answer.
        """
        try:
            return await self._link.request(subject, payload, self._patience)
        except NoResponders:
            raise Gone from None
        except TimeoutError:
            raise ConnectionError(f"no acknowledgement within {self._patience:g} s") from None

    async def _ask(self, body: dict[str, Any]) -> tuple[list[Stored], bool]:
        """Ask for entries; returns them, and whether there are no more behind them."""
        try:
            async with asyncio.timeout(self._short_patience):
                delivered, is_end = await self._collect(json.dumps(body).encode(), is_batch="batch" in body)
        except TimeoutError:
            raise ConnectionError("JetStream does not answer a direct get") from None
        except NoResponders:
            await self._api("INFO")  # which says whether the stream is gone
            raise ConnectionError("JetStream does not answer a direct get") from None
        return [stored_of(each.head, each.payload) for each in delivered], is_end

    async def _collect(self, body: bytes, *, is_batch: bool) -> tuple[list[Delivered], bool]:
        """The messages that are answered with, and whether there are no more behind them.

        Servers before 2.11 answer with one message, which says nothing of more.
        """
        found: list[Delivered] = []
        before = b"0"
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def answer(delivered: Delivered | None) -> None:
            nonlocal before
            if done.done():
                return
            if delivered is None:
                done.set_exception(ConnectionError("the link to the server is down"))
                return
            status = wire.status(delivered.head)
            # In a batch each one names the one before it: between servers of a cluster some may be lost.
            last = wire.field(delivered.head, b"Nats-Last-Sequence")
            if last is not None and last != before:
                done.set_exception(ConnectionError("some of the answers of a direct get are lost"))
                return
            if status == 503:
                done.set_exception(NoResponders())
            elif status in (204, 404):
                done.set_result(status == 404 or wire.field(delivered.head, b"Nats-Num-Pending") == b"0")
            elif status:
                done.set_exception(ConnectionError(f"a direct get is answered by {delivered.head[:80]!r}"))
            else:
                found.append(delivered)
                before = wire.field(delivered.head, b"Nats-Sequence") or b""
                if not is_batch or wire.field(delivered.head, b"Nats-Num-Pending") is None:
                    done.set_result(False)

        subject, end = self._link.answers_to(answer)
        try:
            self._link.publish(f"$JS.API.DIRECT.GET.{self.name}".encode(), body, reply=subject)
            return found, await done
        finally:
            end()

    async def _ask_leader(self, body: dict[str, Any]) -> tuple[list[Stored], bool]:
        """The same of the leader's word, for one entry."""
        try:
            answer = await self._api("MSG.GET", **body)
        except ApiError as error:
            if error.number == _NO_MESSAGE:
                return [], True
            raise
        try:
            message = answer["message"]
            headers = base64.b64decode(message.get("hdrs", ""))
            return [
                _stored(message["seq"], message["time"], headers, base64.b64decode(message.get("data", ""))),
            ], False
        except (KeyError, TypeError, AttributeError, ValueError):
            raise ConnectionError(f"JetStream returned no message: {answer!r:.80}") from None


def stored_of(headers: bytes, payload: bytes) -> Stored:
    """The entry that a message is, by the headers that the server has added.

    Raises:
        ConnectionError: it has none.
    """
    sequence, at = wire.field(headers, b"Nats-Sequence"), wire.field(headers, b"Nats-Time-Stamp")
    try:
        return _stored(int(sequence or b""), (at or b"").decode(), headers, payload)
    except ValueError:
        raise ConnectionError(f"an entry of the stream without its number: {headers[:80]!r}") from None


def _stored(sequence: int, at: str, headers: bytes, payload: bytes) -> Stored:
    if not 0 < sequence < LIMIT:
        raise ValueError("a number out of range")
    anchor = wire.field(headers, ANCHOR)
    keep = wire.field(headers, _KEEP)
    if anchor is not None and not anchor.isdigit():
        raise ValueError("an anchor without a position")
    stands_for = None if anchor is None else min(int(anchor[:17]) or sequence, sequence)
    subject = wire.field(headers, b"Nats-Subject") or b""
    seconds = float(keep[:20]) if keep else 0.0
    return Stored(sequence, moment_of(at), stands_for, seconds, payload, subject.decode("utf-8", "replace"))


def object_of(payload: bytes) -> dict[str, Any]:
    """The values of an answer.

    Raises:
        ConnectionError: it is no JSON object.
    """
    try:
        answer = json.loads(payload)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise ConnectionError(f"invalid answer from JetStream: {payload[:80]!r}")
    return answer


def moment_of(text: str) -> float:
    """The seconds since 1970 of a time as JetStream writes it.

    Raises:
        ValueError: it is none.
    """
    return datetime.fromisoformat(text).timestamp()
