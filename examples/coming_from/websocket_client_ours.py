"""The same with lapwing."""

import sys

import lapwing

with lapwing.connect(sys.argv[1], timeout=5) as ws:
    ws.send("hello")
    print(ws.receive())
    ws.send(b"bytes")
    print(ws.receive())


with lapwing.connect(sys.argv[1]) as ws:
    ws.send("in callbacks")
    for message in ws:
        print(message)
        ws.close()
    print("closed")
