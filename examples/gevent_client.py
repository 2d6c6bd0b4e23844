"""Several blocking clients in the greenlets of one thread; none waits for the network of another.

Usage: python gevent_client.py [URL]
"""

from gevent import monkey

monkey.patch_all()  # before anything else is imported

import sys  # noqa: E402

import gevent  # noqa: E402

import lapwing  # noqa: E402

url = sys.argv[1] if len(sys.argv) > 1 else "ws://localhost:8080"


def ask(name: str) -> str:
    """Ask a question, and wait for the answer."""
    with lapwing.connect(url, "slow", timeout=5) as ws:
        ws.send(name)
        return str(ws.receive())


with gevent.Timeout(10):
    asking = [gevent.spawn(ask, name) for name in ("first", "second", "third")]
    for greenlet in asking:
        print(greenlet.get())
