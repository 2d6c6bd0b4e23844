"""The process of the hub of workers, on a listening socket that it is given: python -m tests.chaos.place DESCRIPTOR."""

from __future__ import annotations

import asyncio
import socket
import sys

from lapwing.hub import MemoryEngine
from lapwing.hub.engines.process import HubProcess

if __name__ == "__main__":
    asyncio.run(HubProcess(MemoryEngine()).serve(socket.socket(fileno=int(sys.argv[1])), asyncio.Event()))
