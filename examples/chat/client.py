"""A chat client that reconnects: one thread receives while another thread sends.

Usage: python client.py [URL [TOKEN]], then type; the end of the input (Ctrl-D) leaves.
"""

import sys
import threading

import lapwing

current: lapwing.Client | None = None


def follow(url: str, token: str | None) -> None:
    """Print the messages, on one connection after the other."""
    global current
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        for ws in lapwing.connect(url, "chat", headers=headers, reconnect=True):
            current = ws
            try:
                for message in ws:
                    print(message, flush=True)
            except lapwing.ConnectionClosed:
                pass  # the connection was lost: connect again
    except lapwing.HandshakeError as error:  # trying again would not help
        print(error, flush=True)


url = sys.argv[1] if len(sys.argv) > 1 else "ws://localhost:8080"
token = sys.argv[2] if len(sys.argv) > 2 else None
threading.Thread(target=follow, args=(url, token), daemon=True).start()
for line in sys.stdin:
    try:
        if current is not None:
            current.send(line.rstrip("\n"))
            continue
    except lapwing.ConnectionClosed as error:
        print(error, flush=True)
    print("not connected: say it again later", flush=True)
