"""The same for a blocking program: it sends one message, and waits for the next one.

Usage: python blocking_client.py [URL [NAME]]
"""

import sys

import lapwing

url = sys.argv[1] if len(sys.argv) > 1 else "ws://localhost:8080"
name = sys.argv[2] if len(sys.argv) > 2 else "python"

with lapwing.hub.connect(url, token=name) as client, client.subscribe("chat:lobby") as messages:
    messages.publish({"name": name, "text": "hello from a thread"})
    message = next(messages)
    print(f"{message.data['name']}: {message.data['text']}", flush=True)
