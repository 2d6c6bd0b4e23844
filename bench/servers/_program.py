"""What the servers have in common as programs: their options, their event loop and how they say their port."""

import argparse
import asyncio
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """What the command line chose."""

    port: int
    broadcast: bool
    compress: bool
    takeover: bool
    certificate: str | None
    key: str | None
    loop: str
    variant: str
    redis: str | None

    def tls(self) -> ssl.SSLContext | None:
        """Make the context for TLS, None for plain TCP."""
        if not self.certificate:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


def read_options() -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--broadcast", action="store_true", help="send every message to all clients, not back")
    parser.add_argument(
        "--compress", action="store_true", help="agree to permessage-deflate, with the library's defaults"
    )
    parser.add_argument("--takeover", action="store_true", help="compress with context takeover")
    parser.add_argument("--certificate", help="PEM file, for TLS")
    parser.add_argument("--key", help="PEM file")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--variant", default="", help="what else there is to choose from")
    parser.add_argument("--redis", metavar="URL", help="the server of Redis between the processes of a room")
    return Options(**vars(parser.parse_args()))


def run(main: Callable[[Options], Coroutine[object, object, None]]) -> None:
    """Run ``main(options)`` on the event loop that the command line names."""
    options = read_options()
    if options.loop == "uvloop":
        import uvloop

        uvloop.run(main(options))
    else:
        asyncio.run(main(options))


def announce(port: int) -> None:
    """Print the port that the server listens on: it is ready."""
    print(port, flush=True)
