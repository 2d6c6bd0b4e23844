"""The protocol without I/O: a client and a server that pass bytes to each other.

Usage: python protocol_only.py
"""

import os

from lapwing.protocol import ClientHandshake, Endpoint, Role, ServerHandshake, ServerPolicy, parse_url

# The opening handshake: a request, and the response to it.
opening = ClientHandshake(parse_url("ws://localhost/chat"), nonce=os.urandom(16), subprotocols=["echo"])
answer = ServerHandshake(ServerPolicy(subprotocols=["echo"], default=False))
answer.receive_data(opening.data_to_send())
opening.receive_data(answer.data_to_send())
print("the subprotocol is", opening.subprotocol)

# The connection is open: from here on each side is an endpoint.
client, server = Endpoint(Role.CLIENT), Endpoint(Role.SERVER)
client.send("hello")
server.receive_data(client.data_to_send(), now=0.0)
print("the server has received", server.next_message())

# The closing handshake: a close frame in each direction.
client.close(1000, "that was all", now=0.0)
server.receive_data(client.data_to_send(), now=0.0)
client.receive_data(server.data_to_send(), now=0.0)
print(client.closed)
print(server.closed)
