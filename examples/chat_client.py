"""A chat client on the terminal: one thread receives while another thread sends.

Usage: python chat_client.py NAME [URL], then type; the end of the input (Ctrl-D) leaves.
"""

import sys
import threading

import lapwing


def listen(ws: lapwing.Client) -> None:
    """Print each message until the connection is closed."""
    for message in ws:
        print(message, flush=True)
    print("the connection is closed", flush=True)


name = sys.argv[1]
url = sys.argv[2] if len(sys.argv) > 2 else "ws://localhost:8080"

with lapwing.connect(url, "chat") as ws:
    listener = threading.Thread(target=listen, args=(ws,))
    listener.start()
    ws.send(name)
    for line in sys.stdin:
        if ws.closed:
            break
        ws.send(line.rstrip("\n"))
    ws.close()
    listener.join()
