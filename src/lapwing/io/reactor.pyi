from asyncio import AbstractEventLoop

__all__ = ["Reactor", "Source"]

class Source: ...

class Reactor:
    @property
    def loop(self) -> AbstractEventLoop: ...
    def on_timer(self) -> None: ...
