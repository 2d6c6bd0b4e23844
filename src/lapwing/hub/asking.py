"""Permissions: the questions to the functions of a program, and the calls of them."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from .errors import Denied, Unavailable
from .payloads import JSON, payload_of
from .presence import MAX_INFO

if TYPE_CHECKING:
    from collections.abc import Callable

    from .message import Message

__all__ = ["Ask", "Call", "answer_of", "encoded_answer", "encoded_info", "require", "seconds_left"]

logger = logging.getLogger("lapwing.hub")

#: Seconds that a function may take.
_TIMEOUT: Final = 10.0

Action = Literal["connect", "subscribe", "publish", "presence", "history"]


class Ask:
    """A question to the program: may this client do that? Returning says yes, raising `Denied` says no.

    Attributes:
        action: "subscribe", "publish", "presence" or "history"; "connect" in `Hub.authenticate`.
        topic: the topic; empty for "connect".
        connection: the client's WebSocket; None where there is none.
        client: the identifier of the connection.
        token: the token that the client sent, empty without one. It is never logged.
        user: the user of the client, by `Hub.authenticate` or the server's `on_request`; None without them. In
            `authenticate` to be set.
        expires: to be set: when the permission ends, in seconds since 1970 (as the claim `exp` of a token has it), as a
            `datetime`, or as a `timedelta` from now; None for never.
        info: to be set: a JSON value that the others of the topic learn of the client, up to 1 KiB.
        filter: to be set: a function of a `Message` that returns whether this subscriber is to get it. It should look
            at `tags`: the data is not decoded otherwise.
        answer: to be set: a JSON value for the client, sent with the permission.
    """

    def __init__(
        self,
        action: Action,
        topic: str = "",
        *,
        connection: Any = None,
        client: str = "",
        user: str | None = None,
        token: str = "",
        data: Any = None,
        is_raw: bool = False,
    ) -> None:
        self.action: Action = action
        self.topic = topic
        self.connection = connection
        self.client = client
        self.user = user
        self.token = token
        self._data = data
        self._is_raw = is_raw
        self.expires: float | datetime | timedelta | None = None
        self.info: Any = None
        self.filter: Callable[[Message[Any]], bool] | None = None
        self.answer: Any = None

    @property
    def data(self) -> Any:
        """The data that the client sent with its command, as a JSON value; None without any.

        Of a message that it wants to publish on a raw topic: the `bytes` or `str`.
        """
        if isinstance(self._data, bytes) and not self._is_raw:
            self._data = json.loads(self._data) if self._data else None
        return self._data

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.action} {self.topic!r} of user {self.user!r}>"


class Call(Ask):
    """A call of a client: the function that `Hub.call` has for `method` answers it.

    Attributes:
        method: the name; empty in `Hub.on_message`.
    """

    def __init__(self, method: str, **of: Any) -> None:
        super().__init__("connect", "", **of)
        self.method = method


async def answer_of(function: Callable[[Any], Any], ask: Ask) -> Any:
    """Call a function of the program: an `async def` one, or a plain one, which must not block.

    Raises:
        Denied, Expired: the function did.
        Unavailable: it raised something else, which is logged, or took longer than 10 s.
    """
    try:
        answer = function(ask)
        if inspect.isawaitable(answer):
            async with asyncio.timeout(_TIMEOUT):
                answer = await answer
    except Denied:
        raise
    except TimeoutError:
        logger.exception("the function for %r did not answer within %g s", ask, _TIMEOUT)
        raise Unavailable("the permission could not be checked") from None
    except Exception:
        logger.exception("the function for %r failed", ask)
        raise Unavailable("the permission could not be checked") from None
    return answer


async def require(function: Callable[[Any], Any], ask: Ask) -> None:
    """Have a topic's function say yes.

    Raises:
        Denied, Expired, Unavailable: as `answer_of`; also where the function returned something, such as False, which
            is neither a yes nor a no.
    """
    answer = await answer_of(function, ask)
    if answer is not None and answer is not True:
        logger.error(
            "the function for %r returned %r: expected None to permit, or lapwing.Denied raised to refuse", ask, answer
        )
        raise Unavailable("the permission could not be checked")


def seconds_left(expires: float | datetime | timedelta | None, now: float) -> float | None:
    """For how many seconds a permission lasts; None for ever.

    Args:
        expires: as `Ask.expires`.
        now: seconds since 1970.
    """
    if expires is None:
        return None
    if isinstance(expires, timedelta):
        return expires.total_seconds()
    if isinstance(expires, datetime):
        return expires.timestamp() - now
    if isinstance(expires, bool) or not isinstance(expires, (int, float)):
        raise TypeError(f"expected expires in seconds since 1970, a datetime or a timedelta, got {expires!r}")
    if math.isnan(expires):
        raise ValueError("expected expires in seconds since 1970, got not a number")
    return None if expires == math.inf else expires - now


def encoded_info(info: Any) -> bytes | None:
    """The topic function's `info` about a client, as one line of JSON.

    Raises:
        ValueError: it is longer than 1 KiB.
    """
    if info is None:
        return None
    _, encoded = payload_of(info, raw=False)
    if len(encoded) > MAX_INFO:
        raise ValueError(f"expected info of at most {MAX_INFO} bytes, got {len(encoded)}")
    return encoded


def encoded_answer(answer: Any) -> bytes | None:
    """The answer for the client with its permission, as one line of JSON."""
    if answer is None:
        return None
    kind, encoded = payload_of(answer, raw=False)
    return encoded if kind == JSON else None
