"""The answers to the requests of a client of the Centrifugo protocol: the work of the hub for each, and its errors."""

from __future__ import annotations

import json
import logging
import math
from typing import TYPE_CHECKING, Any, Final, Protocol

from .asking import Call
from .errors import Denied, Expired, Lost, PublishError, TooManyTopics, Unavailable
from .names import check_name
from .outlets import HELD_POLICIES, info_of, publication_of, written_for_many
from .position import OWN_EPOCH, Position
from .wire.codes import ErrorCode, UnsubscribeCode, error
from .wire.json_text import check
from .wire.messages import (
    Empty,
    HistoryRequest,
    HistoryResult,
    OfTopic,
    PresenceResult,
    PresenceStats,
    PublishRequest,
    Refresh,
    RpcRequest,
    Send,
    SubRefreshRequest,
    SubscribeRequest,
    SubscribeResult,
)
from .wire.session import REJECT_UNRECOVERED

if TYPE_CHECKING:
    from .core import Core
    from .gate import Gate
    from .names import Declaration
    from .outlets import HeldOutlet, Outlet
    from .seats import Seat
    from .wire.messages import Error, Message, RefreshResult
    from .wire.session import Codec, Request

__all__ = ["Requester", "answer", "checked", "ttl_of", "wrong"]

logger = logging.getLogger("lapwing.hub")

#: Seconds before the end of a permission when its client is to come with a new token, or a tenth of the permission.
_MOST_AHEAD: Final = 25.0
#: The longest time of a permission in an answer, in seconds: clients take these for 32-bit numbers.
_LONGEST: Final = 2**31 - 1


class Requester(Protocol):
    """Whose requests are answered: the server's end of one connection, see `serving.Served`."""

    core: Core
    gate: Gate
    connection: Any
    codec: Codec
    outlet: Outlet
    held: HeldOutlet
    is_over: bool

    def json(self, data: bytes) -> bytes:
        """The data of a request, which is JSON."""

    def answer(self, request: Request, result: Message) -> None:
        """Answer a request."""

    def refuse(self, request: Request, why: Error) -> None:
        """Answer a request with an error."""

    def seat(self, topic: str) -> Seat | None:
        """The client's subscription of a topic."""

    def leave(self, seat: Seat) -> None:
        """End a subscription that the client wants no more."""

    async def refresh(self, token: str) -> RefreshResult:
        """Take a new token of the connection."""


class Refused(Exception):  # noqa: N818 - an answer rather than a fault
    """A request that is answered with this error."""

    def __init__(self, why: Error) -> None:
        super().__init__(why)
        self.why = why


async def answer(served: Requester, request: Request) -> None:
    """Carry out the request of a client, and answer it. Every error is an answer, too."""
    try:
        result = await _METHODS[request.method](served, request.message)
    except Exception as failure:  # noqa: BLE001 - each has its answer
        served.refuse(request, wrong(failure, request.method))
        return
    if isinstance(result, _Started):
        served.answer(request, result.result)
        result.start()
    elif result is not None:
        served.answer(request, result)


def wrong(failure: Exception, method: str) -> Error:
    """Return the error for the client; an error that is no fault of the client's is logged."""
    if isinstance(failure, Refused):
        return failure.why
    for kind, code in _CODES:
        if isinstance(failure, kind):
            # The hub's message about unknown topics is for its program.
            return error(code, "" if kind is LookupError else str(failure))
    if isinstance(failure, (Unavailable, PublishError, TimeoutError, OSError)):
        logger.warning("the request %r of a client failed: %s", method, failure)
    else:
        logger.error("the request %r of a client failed", method, exc_info=failure)
    return error(ErrorCode.INTERNAL)


#: The first that fits counts.
_CODES: Final[tuple[tuple[type[Exception], ErrorCode], ...]] = (
    (Expired, ErrorCode.TOKEN_EXPIRED),
    (Denied, ErrorCode.PERMISSION_DENIED),
    (TooManyTopics, ErrorCode.TOO_MANY_REQUESTS),
    (Lost, ErrorCode.UNRECOVERABLE_POSITION),
    (LookupError, ErrorCode.UNKNOWN_CHANNEL),
    (UnicodeError, ErrorCode.BAD_REQUEST),
    (ValueError, ErrorCode.BAD_REQUEST),
    (TypeError, ErrorCode.BAD_REQUEST),
)


def ttl_of(seconds: float | None) -> dict[str, Any]:
    """For how long a permission lasts, as results say it: whole seconds, at least one, and at most 68 years."""
    return {} if seconds is None else {"expires": True, "ttl": max(math.ceil(min(seconds, _LONGEST)), 1)}


def _ttl_of_seat(seat: Seat) -> dict[str, Any]:
    """The same of a subscription, which ends with its permission: a client comes with a new token before that."""
    seconds = seat.expires
    return ttl_of(None if seconds is None else math.floor(seconds - min(seconds / 10, _MOST_AHEAD)))


# --- subscriptions -----------------------------------------------------------------------------------------------


class _Started:
    """The result of a subscription that begins once it has been answered."""

    def __init__(self, result: Message, seat: Seat) -> None:
        self.result = result
        self.start = seat.start


async def _subscribe(served: Requester, request: SubscribeRequest) -> _Started | None:
    topic = request.channel
    options = served.core.declarations.find(check_name(topic))
    _require_codec(served, options)
    outlet = served.held if options.lagging in HELD_POLICIES else served.outlet
    since = Position(request.offset, request.epoch or OWN_EPOCH) if request.recover else None
    seat = await served.gate.enter(
        outlet, topic, since=since, token=request.token, data=served.json(request.data), connection=served.connection
    )
    if served.is_over:
        seat.leave()
        return None
    if request.recover and not seat.recovered and request.flag & REJECT_UNRECOVERED:
        seat.leave()
        raise Refused(error(ErrorCode.UNRECOVERABLE_POSITION))
    seat.wants_presence = options.presence and request.join_leave
    return _Started(_beginning(served, request, seat), seat)


def _beginning(served: Requester, request: SubscribeRequest, seat: Seat) -> Message:
    """Tell a client where its subscription begins. To many that have missed the same, the same is written once."""

    def make() -> SubscribeResult:
        return SubscribeResult(
            recoverable=True,
            positioned=True,
            epoch=OWN_EPOCH,
            offset=int(seat.position),
            was_recovering=request.recover,
            recovered=seat.recovered,
            publications=[publication_of(message, served.codec) for message in seat.missed],
            data=seat.data or b"",
            **_ttl_of_seat(seat),
        )

    if not seat.missed or seat.data is not None or seat.expires is not None:
        return make()
    kind = int(seat.position), len(seat.missed), request.recover, seat.recovered
    return written_for_many(seat.missed[-1], kind, make, served.codec)


def _require_codec(served: Requester, options: Declaration) -> None:
    """Refuse topics of bytes to clients that speak JSON, which has no bytes."""
    if options.raw is True and served.codec.is_text:
        raise Refused(
            error(ErrorCode.NOT_AVAILABLE, "messages of this topic are bytes: use the subprotocol centrifuge-protobuf")
        )


def _text(data: bytes, *, is_json: bool) -> str:
    """The text that a client publishes on a topic of text.

    Raises:
        ValueError: it is not one.
    """
    text = json.loads(data or b"null") if is_json else data.decode()
    if not isinstance(text, str):
        raise ValueError("expected a string: messages of this topic are text")  # noqa: TRY004 - the client's fault
    return text


async def _unsubscribe(served: Requester, request: OfTopic) -> Empty:
    seat = served.seat(request.channel)
    if seat is not None:
        served.leave(seat)
    return Empty()


async def _sub_refresh(served: Requester, request: SubRefreshRequest) -> Refresh:
    seat = _own_seat(served, request.channel)
    try:
        await served.gate.refresh(seat, request.token, connection=served.connection)
    except Denied as denied:
        if isinstance(denied, Expired) or seat.topic is None:  # the client knows already that it has ended
            raise
        seat.leave()
        served.held.removed(seat, UnsubscribeCode.SERVER, str(denied))
        raise
    return Refresh(**_ttl_of_seat(seat))


def _own_seat(served: Requester, topic: str) -> Seat:
    """The client's own live subscription, without which it learns nothing of a topic."""
    seat = served.seat(topic)
    if seat is None:
        raise Refused(error(ErrorCode.PERMISSION_DENIED, "subscribe to the topic first"))
    return seat


# --- the other requests ------------------------------------------------------------------------------------------


async def _publish(served: Requester, request: PublishRequest) -> Empty:
    if request.type:
        raise Refused(error(ErrorCode.NOT_AVAILABLE, "types of topics are not available"))
    options = served.core.declarations.find(check_name(request.channel))
    _require_codec(served, options)
    data: bytes | str = request.data
    if options.raw == "text":
        data = _text(request.data, is_json=served.codec.is_text)
    elif not options.raw:
        if not data:
            raise Refused(error(ErrorCode.BAD_REQUEST, "expected data"))
        data = served.json(request.data)  # before the program looks at it
    await served.gate.publish(served.outlet, request.channel, data, connection=served.connection)
    return Empty()


async def _presence(served: Requester, request: OfTopic) -> PresenceResult:
    present = await served.gate.present(_own_seat(served, request.channel), connection=served.connection)
    found = {member.client: info_of(member.user, member.client, member.info) for member in present.members}
    return PresenceResult({client: info for client, info in found.items() if info is not None})


async def _presence_stats(served: Requester, request: OfTopic) -> PresenceStats:
    present = await served.gate.present(_own_seat(served, request.channel), connection=served.connection)
    return PresenceStats(present.count, len(present.users))


async def _history(served: Requester, request: HistoryRequest) -> HistoryResult:
    seat = _own_seat(served, request.channel)
    kept = seat.options.history
    if not kept:
        raise Refused(error(ErrorCode.NOT_AVAILABLE, "this topic keeps no history"))
    since = None
    if request.since is not None:
        since = Position(request.since.offset, request.since.epoch or OWN_EPOCH)
        if not since.is_own:
            raise Refused(error(ErrorCode.UNRECOVERABLE_POSITION))
    limit = kept if request.limit < 0 else min(request.limit, kept)
    # Backwards and without a limit all that is kept is looked at; it is no more than the topic was declared to keep.
    forwards = since is not None and not request.reverse
    found = await served.gate.history(seat, kept, since if forwards else None, connection=served.connection)
    if request.reverse:
        found = [message for message in reversed(found) if since is None or message.position < since]
    last = await served.core.engine.last([request.channel])
    return HistoryResult([publication_of(message, served.codec) for message in found[:limit]], OWN_EPOCH, last[0])


async def _rpc(served: Requester, request: RpcRequest) -> Send:
    call = Call(
        request.method,
        connection=served.connection,
        client=served.outlet.client,
        user=served.outlet.user,
        data=served.json(request.data),
    )
    try:
        result = await served.gate.call(call)
    except LookupError as unknown:
        raise Refused(error(ErrorCode.METHOD_NOT_FOUND)) from unknown
    return Send(result or b"")


async def _send(served: Requester, request: Send) -> None:
    """Give a client's message to the program; there is no answer, not even an error."""
    call = Call(
        "",
        connection=served.connection,
        client=served.outlet.client,
        user=served.outlet.user,
        data=served.json(request.data),
    )
    await served.gate.take(call)


async def _refresh(served: Requester, request: Any) -> Any:
    return await served.refresh(request.token)


_METHODS: Final[dict[str, Any]] = {
    "subscribe": _subscribe,
    "unsubscribe": _unsubscribe,
    "publish": _publish,
    "presence": _presence,
    "presence_stats": _presence_stats,
    "history": _history,
    "rpc": _rpc,
    "send": _send,
    "refresh": _refresh,
    "sub_refresh": _sub_refresh,
}


def checked(data: bytes, *, is_json: bool) -> bytes:
    """The data of a request, as JSON: a codec of JSON has checked it, protobuf carries any bytes.

    Raises:
        ValueError: it is no JSON.
    """
    return data if is_json or not data else check(data)
