"""A message in pieces, without I/O: for a program with its own transport.

Usage: python protocol_pieces.py
"""

from collections.abc import Iterable, Iterator

from lapwing.protocol import Endpoint, Role


def pieces_of_next(endpoint: Endpoint, arriving: Iterable[bytes]) -> Iterator[str | bytes]:
    """Yield the next message piece by piece, while its bytes arrive."""
    source = iter(arriving)
    while endpoint.begin_stream() is None:  # the message has not begun
        endpoint.receive_data(next(source), now=0.0)
    while endpoint.is_streaming:
        piece = endpoint.next_piece()
        if piece is not None:
            yield piece
        elif endpoint.is_streaming:
            endpoint.receive_data(next(source), now=0.0)


def main() -> None:
    client, server = Endpoint(Role.CLIENT), Endpoint(Role.SERVER)
    client.send_fragment("one ", fin=False)
    client.send_fragment("two ", fin=False)
    client.send_fragment("three", fin=True)
    wire = client.data_to_send()
    for piece in pieces_of_next(server, (wire[i : i + 10] for i in range(0, len(wire), 10))):
        print(repr(piece))


if __name__ == "__main__":
    main()
