"""A device: it presents its client certificate, and sends each reading until the server acknowledges it.

Usage: python device.py URL SERVER_CA DEVICE_CERT DEVICE_KEY VALUE...
"""

import ssl
import sys
import time

import lapwing


def main(url: str, server_ca: str, certfile: str, keyfile: str, *values: str) -> None:
    context = ssl.create_default_context(cafile=server_ca)
    context.load_cert_chain(certfile, keyfile)
    waiting = [{"time": time.time(), "value": float(value)} for value in values]
    for ws in lapwing.connect(url, reconnect=True, ssl=context, timeout=10):
        try:
            while waiting:
                ws.send_json(waiting[0])
                print("taken", ws.receive_json()["taken"] == waiting[0]["time"])
                del waiting[0]
        except (lapwing.ConnectionClosed, TimeoutError):
            continue  # send the reading again on the next connection
        break


if __name__ == "__main__":
    main(*sys.argv[1:])
