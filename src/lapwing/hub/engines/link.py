"""A link to a broker that is kept: watched, made again after each failure, and never said to be up when it is deaf.

A message to ourselves goes through the broker every few seconds: if it does not come back, the link is given up,
even if TCP is content. The kinds of link, one for each kind of broker, define how one is made and probed.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ...io.dial import hint_at
from .contract import Health

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["CONNECT_PATIENCE", "Refused", "SupervisedLink"]

logger = logging.getLogger("lapwing.hub")

#: Seconds between two probes, and for one to come back.
_PROBE_EVERY: Final = 3.0
_PROBE_PATIENCE: Final = 5.0
#: Seconds for connecting, and for each step of it.
CONNECT_PATIENCE: Final = 5.0
#: Seconds before the next attempt, doubled each time up to the second number; by chance between half and all of it.
_BACKOFF: Final = (0.05, 0.5)
#: Seconds that a link has to last: after one that ends before, the next attempt waits as after a failed one.
_STABLE: Final = 5.0
#: Messages of other programs, after which a link is given up: each of them has a topic repaired.
_MOST_FOREIGN: Final = 1000


class Refused(Exception):  # noqa: N818 - the server's word
    """This server cannot be used as it is: the message says why. A link that was up before tries again."""


class SupervisedLink(ABC):
    """What all links have in common; a kind of link has `_connect`, `_probe_once` and `_close` of its own.

    Args:
        shown: the broker's URL without its secrets.
        interrupted: called with the reason when the link goes down: messages may be missing from here on.
        resumed: called when it is up, and everything is subscribed to.
        errors: the exceptions of `_connect` and `_probe_once` where the broker cannot be used now, in addition to
            OSError and ValueError.

    Attributes:
        is_up: whether it is up.
        offset: the seconds by which the broker's clock, which counts from 1970, is ahead of `time.monotonic`.
    """

    def __init__(
        self,
        shown: str,
        interrupted: Callable[[str], None],
        resumed: Callable[[], None],
        errors: tuple[type[Exception], ...] = (),
    ) -> None:
        self._shown = shown
        self._tell_interrupted = interrupted
        self._tell_resumed = resumed
        self._errors: tuple[type[Exception], ...] = (OSError, ValueError, *errors)
        self._lost: asyncio.Future[str] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._since = time.time()
        self._probed_at: float | None = None
        self._why = "not started"
        self._refusal: Refused | None = None
        self._was_up = False
        self._foreign = 0
        self.is_up = asyncio.Event()
        self.offset = time.time() - time.monotonic()

    # --- of each kind ----------------------------------------------------------------------------------------------

    @abstractmethod
    async def _connect(self) -> None:
        """Make the link, with everything that it needs to be one."""

    @abstractmethod
    async def _probe_once(self) -> None:
        """Return when a message to ourselves has come back through the broker."""

    @abstractmethod
    def _close(self, why: str) -> None:
        """Close what there is of the link; what waits for it fails."""

    # --- for the engine --------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds since 1970 by the broker's clock, as far as it is known: this machine's may be wrong, and jump."""
        return time.monotonic() + self.offset

    def learn_time(self, said: float, asked_at: float) -> None:
        """Take over the broker's time, for which it was asked at a moment of `time.monotonic`.

        It was so at some moment since then: an estimate with which that agrees may be better than a new one.
        """
        least, most = said - time.monotonic(), said - asked_at
        if not least <= self.offset <= most:
            self.offset = (least + most) / 2

    @property
    def health(self) -> Health:
        """How the link is, as of the last message that came back."""
        is_up = self.is_up.is_set()
        return Health(is_up, self._since, self._probed_at, "" if is_up else f"{self._shown}: {self._why}")

    @property
    def longest_block(self) -> float:
        """Seconds for which a command may block the link: half of the patience of its probe."""
        return _PROBE_PATIENCE / 2

    async def start(self, patience: float) -> None:
        """Return when the link is up; from then on it is kept.

        Raises:
            Refused: this server can never be used.
            ConnectionError: it is not up in time.
        """
        self._refusal = None
        self._was_up = False
        self.is_up = asyncio.Event()  # one that was waited for belongs to its event loop
        self._keeper = keeper = asyncio.get_running_loop().create_task(self._keep())
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    while not self.is_up.is_set() and not keeper.done():  # it may be down again at once
                        waiting = asyncio.ensure_future(self.is_up.wait())
                        try:
                            await asyncio.wait((keeper, waiting), return_when=asyncio.FIRST_COMPLETED)
                        finally:
                            waiting.cancel()
        finally:
            if not self.is_up.is_set():
                why = self._why
                await self.stop()
        if self._refusal is not None:
            raise self._refusal
        if not self.is_up.is_set():
            raise ConnectionError(f"{self._shown} cannot be used: {why}")

    async def stop(self) -> None:
        """End it."""
        keeper, self._keeper = self._keeper, None
        try:
            if keeper is not None:
                keeper.cancel()
                await asyncio.wait((keeper,))
        finally:
            self._down("stopped", tell=False)

    def give_up(self, why: str) -> None:
        """Give the link up: the server has said that its state has changed."""
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(why)

    def note_foreign(self) -> None:
        """Count a message that is not a hub's; too many of them end the link."""
        self._foreign += 1
        if self._foreign > _MOST_FOREIGN:
            self.give_up("another program publishes where this hub does: give one of them another namespace")

    # --- keeping it ------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        wait = _BACKOFF[0]
        while True:
            self._lost = asyncio.get_running_loop().create_future()
            try:
                await self._connect()
            except Refused as refusal:
                self._down(str(refusal))
                if not self._was_up:
                    self._refusal = refusal
                    return
            except self._errors as error:
                self._down(hint_at(error) or str(error) or type(error).__name__)
                if not self._was_up and wait == _BACKOFF[0]:  # a start takes its time before it fails
                    logger.warning("there is no link to %s yet: %s", self._shown, self._why)
            except Exception as error:
                logger.exception("the link to %s failed", self._shown)
                self._down(repr(error))
            else:
                began = time.monotonic()
                self._up()
                self._down(await self._watch(self._lost))
                if time.monotonic() - began >= _STABLE:
                    wait = _BACKOFF[0]
            await asyncio.sleep(wait * random.uniform(0.5, 1))
            wait = min(wait * 2, _BACKOFF[1])

    async def _watch(self, lost: asyncio.Future[str]) -> str:
        """Watch a link that is up; returns why it is not any more."""
        while True:
            done, _ = await asyncio.wait((lost,), timeout=_PROBE_EVERY)
            if done:
                return lost.result()
            try:
                async with asyncio.timeout(_PROBE_PATIENCE):
                    await self._probe_once()
            except TimeoutError:
                return f"no messages arrive: a probe did not come back within {_PROBE_PATIENCE:g} s"
            except self._errors as error:
                return str(error) or type(error).__name__
            except Exception as error:
                logger.exception("the probe of the link to %s failed", self._shown)
                return repr(error)

    async def _probing(self, work: Coroutine[Any, Any, None]) -> None:
        """Do work for which a new link is needed that may take its time: as long as probes come back."""
        task = asyncio.get_running_loop().create_task(work)
        try:
            while not (await asyncio.wait((task,), timeout=_PROBE_EVERY))[0]:
                async with asyncio.timeout(_PROBE_PATIENCE):
                    await self._probe_once()
            task.result()
        finally:
            task.cancel()
            await asyncio.wait((task,))
            if not task.cancelled():
                task.exception()  # where the probe has failed, too

    def _came_back(self) -> None:
        """Note that a probe has come back."""
        self._probed_at = time.time()

    def _up(self) -> None:
        self._since = time.time()
        if self._was_up:
            logger.info("the link to %s is up again", self._shown)
        self._was_up = True
        self._foreign = 0
        self.is_up.set()
        self._tell_resumed()

    def _down(self, why: str, *, tell: bool = True) -> None:
        was_up = self.is_up.is_set()
        self.is_up.clear()
        self._why = why
        self._close(why)
        if was_up:
            self._since = time.time()
            if tell:
                logger.warning("the link to %s is down: %s", self._shown, why)
                self._tell_interrupted(why)

    def _ended(self, why: str) -> None:
        """Learn that a connection of the link has ended."""
        self.give_up(why)
        # Before anything else is told: from here on messages may be missing.
        self._down(why)
