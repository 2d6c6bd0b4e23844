"""A blocking client, for scripts and threads: no event loop, no await.

Usage: python blocking_client.py [URL]
"""

import sys

import lapwing

url = sys.argv[1] if len(sys.argv) > 1 else "ws://localhost:8080"

with lapwing.connect(url, "echo", timeout=5) as ws:
    ws.send("a text")
    print("received", ws.receive())

    ws.send(b"some bytes")
    print("received", ws.receive())

    was_clean, code, reason = ws.close()

print("closed", "cleanly" if was_clean else "uncleanly", "with code", code)
