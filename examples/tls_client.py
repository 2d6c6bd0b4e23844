"""A client for wss:// that trusts a custom certificate authority, as for tls_server.py's certificate.

Without ssl= the client trusts the system's authorities, which is right for servers on the internet. In both cases the
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
