"""`Hub.serve`: a handler whose clients speak the Centrifugo client protocol.

A task reads the commands of a connection. Those of one topic are done one after the other, in a task of their own, so
that a slow answer for one topic holds up no other; how many may be under way is limited, and beyond that the connection
is not read.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ..broadcast.fanout import spread
from ..broadcast.message import Broadcast
from ..broadcast.policy import Policy
from .answering import answer, checked, ttl_of, wrong
from .asking import Ask, encoded_answer, encoded_info, seconds_left
from .errors import Denied, Expired
from .lanes import budget_of
from .outage import AWAY
from .outlets import HeldOutlet, Outlet, prepared_frame
from .wire.codes import DisconnectCode
from .wire.json_codec import JsonCodec
from .wire.messages import ConnectResult, RefreshResult
from .wire.protobuf_codec import ProtobufCodec
from .wire.session import Limits, ServerSession

if TYPE_CHECKING:
    from ..faces.aio.connection import Connection
    from .core import Core
    from .gate import Gate
    from .seats import Seat
    from .wire.messages import Error, Message
    from .wire.session import Request

__all__ = ["Served", "serve"]

#: Requests of a client that may be under way.
_MOST_REQUESTS: Final = 64
#: Bytes of answers that may wait for a client.
_MOST_ANSWERS: Final = 1024 * 1024
#: Seconds for unfinished work when a client has gone: a message that it has published is not given up.
_PATIENCE: Final = 10.0
_VERSION: Final = "lapwing"
#: The queue of a client's messages to the program.
_SAID: Final = object()


async def serve(core: Core, gate: Gate, ws: Connection) -> None:
    """Serve one connection until it is closed."""
    core.node()
    if core.outage.lasts:
        await ws.close(*AWAY)
        return
    served = Served(core, gate, ws)
    core.ending[served] = served.shut_down
    core.outage.clients[served] = partial(ws._begin_close, *AWAY)
    try:
        await served.run()
    finally:
        core.ending.pop(served, None)
        core.outage.clients.pop(served, None)
        served.end()
    await served.finish()


class Served:
    """The server's end of one connection.

    Args:
        core: the hub at work.
        gate: the hub as clients see it.
        connection: the connection.

    Attributes:
        core, gate, connection: the same.
        codec: the codec of its subprotocol.
        outlet, held: it as a subscriber.
        is_over: whether it has ended.
    """

    def __init__(self, core: Core, gate: Gate, connection: Connection) -> None:
        self.core = core
        self.gate = gate
        self.connection: Any = connection
        self.codec = ProtobufCodec if connection.subprotocol == ProtobufCodec.subprotocol else JsonCodec
        client = str(uuid.uuid4())
        self.outlet = Outlet(self, client)
        self.held = HeldOutlet(self, client)
        self.is_over = False
        self._loop = asyncio.get_running_loop()
        limits, topics = Limits(topics=core.clients._most_topics), partial(core.clients.topics, client)
        self._session = ServerSession(self.codec, limits, self._loop.time(), topics)
        self._policy = Policy("disconnect", _MOST_ANSWERS, budget_of(connection)[1])
        self._timer: asyncio.TimerHandle | None = None
        #: The requests of each topic; others have a queue each.
        self._queues: dict[object, deque[Request]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self._has_room = asyncio.Event()
        self._has_room.set()

    # --- reading ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Read commands until the connection is closed."""
        self._watch()
        while (frame := await self.connection.receive(decode=False)) is not None:
            for request in self._session.receive(frame, self._loop.time()):
                if request.method == "connect":
                    await self._connect(request)
                else:
                    self._begin(request)
                    if self._under_way >= _MOST_REQUESTS:
                        self._flush()
                        self._has_room.clear()
                        await self._has_room.wait()
            del frame  # it may be large, and the next one may come late
            self._flush()

    def _begin(self, request: Request) -> None:
        """Have a request done, behind the others of its topic."""
        self._under_way += 1
        # A client's messages to the program have one queue, too: they come in order.
        key = getattr(request.message, "channel", None) or (_SAID if request.method == "send" else object())
        queue = self._queues.get(key)
        if queue is not None:
            queue.append(request)
            return
        queue = self._queues[key] = deque((request,))
        task = self._loop.create_task(self._work(key, queue))
        self._tasks.add(task)
        task.add_done_callback(self._has_worked)

    async def _work(self, key: object, queue: deque[Request]) -> None:
        """Do the requests of a queue."""
        try:
            while queue:
                request = queue[0]
                if not self.is_over or request.method == "publish":
                    await answer(self, request)
                queue.popleft()
                self._under_way -= 1
                if self._under_way < _MOST_REQUESTS:
                    self._has_room.set()
        finally:
            del self._queues[key]
            if not self._queues:
                self._queues = {}  # what has grown for many requests keeps its memory

    def _has_worked(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._tasks:
            self._tasks = set()

    def json(self, data: bytes) -> bytes:
        """The data of a request, which is JSON.

        Raises:
            ValueError: it is not.
        """
        return checked(data, is_json=self.codec.is_text)

    # --- who it is -------------------------------------------------------------------------------------------------

    async def _authenticate(self, token: str, data: bytes) -> tuple[Ask, float | None]:
        """Have the program say who the client is; returns also for how many seconds.

        Raises:
            Denied, Expired, Unavailable: it does not.
        """
        ask = Ask(
            "connect",
            connection=self.connection,
            client=self.outlet.client,
            user=self.outlet.user,
            token=token,
            data=self.json(data),
        )
        await self.gate.authenticate(ask)
        left = seconds_left(ask.expires, time.time())
        if left is not None and left <= 0:
            raise Expired
        return ask, left

    async def _connect(self, request: Request) -> None:
        try:
            ask, left = await self._authenticate(request.message.token, request.message.data)
            info, said = encoded_info(ask.info), encoded_answer(ask.answer)
        except Exception as failure:  # noqa: BLE001 - each has its answer
            if isinstance(failure, Denied) and not isinstance(failure, Expired):
                self._session.close(failure.code, str(failure))
            else:
                self._session.refuse(request, wrong(failure, request.method))
            self._flush()
            return
        for outlet in (self.outlet, self.held):
            outlet.user, outlet.info = ask.user, info
        result = ConnectResult(client=self.outlet.client, version=_VERSION, data=said or b"", **ttl_of(left))
        self._session.connected(request, result, self._loop.time())
        self._flush()

    async def refresh(self, token: str) -> RefreshResult:
        """Take a new token of the connection.

        Raises:
            Denied, Expired, Unavailable: it is not good. Where it is refused for good the connection ends.
        """
        try:
            ask, left = await self._authenticate(token, b"")
        except Denied as denied:
            if not isinstance(denied, Expired):
                self._session.close(denied.code, str(denied))
            raise
        if ask.user != self.outlet.user:
            self._session.close(DisconnectCode.INVALID_TOKEN, "this token belongs to another user")
        self._session.expire_in(left, self._loop.time())
        return RefreshResult(client=self.outlet.client, version=_VERSION, **ttl_of(left))

    # --- answering -------------------------------------------------------------------------------------------------

    def answer(self, request: Request, result: Message) -> None:
        """Answer a request."""
        self._session.answer(request, result)
        self._flush()

    def refuse(self, request: Request, why: Error) -> None:
        """Answer a request with an error."""
        self._session.refuse(request, why)
        self._flush()

    def push(self, kind: str, event: Message, topic: str) -> None:
        """Tell the client something unasked."""
        self._session.push(kind, event, topic)
        self._flush()

    def _flush(self) -> None:
        """Send the session's output, behind everything that was sent before on this connection."""
        frame = self._session.take()
        if frame:
            spread(Broadcast(prepared_frame(self.codec, frame), self._policy), [self.connection._reader])
        if self._session.closing is not None:
            self.connection._begin_close(*self._session.closing)
        elif not self.is_over:
            self._watch()

    # --- subscriptions ---------------------------------------------------------------------------------------------

    def seat(self, topic: str) -> Seat | None:
        """The client's subscription of a topic."""
        return self.core.clients.seat(self.outlet.client, topic)

    def leave(self, seat: Seat) -> None:
        """End a subscription that the client wants no more."""
        seat.leave()
        self.held.discard(seat)

    # --- time ------------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Have time noticed. A timer that is early looks again; one that is late is set again."""
        deadline = self._session.deadline
        if self._timer is not None and self._timer.when() <= deadline:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline != float("inf"):
            self._timer = self._loop.call_at(deadline, self._look_at_time)

    def _look_at_time(self) -> None:
        self._timer = None
        self._session.act(self._loop.time())
        self._flush()

    # --- the end ---------------------------------------------------------------------------------------------------

    def shut_down(self) -> None:
        """Disconnect the client, which is to come back: the hub ends."""
        self._session.say_goodbye(DisconnectCode.SHUTDOWN, "shutdown", reconnect=True)
        self._session.close(DisconnectCode.SHUTDOWN, "shutdown")
        self._flush()

    def end(self) -> None:
        """End all subscriptions of a connection that is closed."""
        self.is_over = True
        self._session.close(DisconnectCode.SHUTDOWN)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.gate.leave_all(self.outlet)

    async def finish(self) -> None:
        """Wait for unfinished work, and give it up after a while."""
        if not self._tasks:
            return
        try:
            _, late = await asyncio.wait(self._tasks, timeout=_PATIENCE)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        finally:
            self.gate.leave_all(self.outlet)  # what it has published since then was counted
