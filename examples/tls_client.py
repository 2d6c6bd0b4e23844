"""A client for wss:// that trusts an authority of one's own, as for tls_server.py's certificate.

Without ssl= the system's authorities are trusted, which is right for servers on the internet. Either way the
certificate and the host name are verified.

Usage: python tls_client.py CAFILE [URL]
"""

import ssl
import sys

import lapwing

context = ssl.create_default_context(cafile=sys.argv[1])
url = sys.argv[2] if len(sys.argv) > 2 else "wss://localhost:8443"

with lapwing.connect(url, ssl=context, timeout=5) as ws:
    ws.send("nobody else reads this")
    print("received", ws.receive())
