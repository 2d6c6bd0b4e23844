"""Connect through a proxy, and read its response when it refuses.

Usage: python through_a_proxy.py URL PROXY, as in python through_a_proxy.py wss://example.com socks5h://localhost:1080
"""

import sys

import lapwing

url, proxy = sys.argv[1:]

with lapwing.connect(url, "echo", proxy=proxy, timeout=5) as ws:
    ws.send("hello")
    print("received", ws.receive())

# The same proxy as an HTTP proxy, without credentials: this proxy requires some.
without = "http://" + proxy.partition("@")[2]
try:
    with lapwing.connect(url, "echo", proxy=without, timeout=5) as ws:
        print("connected")
except lapwing.ProxyError as error:
    print("the proxy refused: HTTP status", error.status)
