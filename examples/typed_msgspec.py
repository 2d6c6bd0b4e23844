"""Typed messages with msgspec: a tagged union of structs; an invalid message closes the connection with 1007.

Usage: python typed_msgspec.py [PORT]
"""

import sys

import msgspec

import lapwing


class Join(msgspec.Struct, tag="join"):
    room: str


class Say(msgspec.Struct, tag="say"):
    text: str


class Said(msgspec.Struct, tag="said"):
    room: str
    text: str


decode = msgspec.json.Decoder(Join | Say).decode
encode = msgspec.json.encode


async def chat(ws: lapwing.Connection) -> None:
    room = "hall"
    while (text := await ws.receive(decode=False)) is not None:  # bytes: msgspec decodes UTF-8 itself
        try:
            message = decode(text)
        except msgspec.MsgspecError as error:
            await ws.close(1007, str(error)[:123])
            return
        match message:
            case Join():
                room = message.room
            case Say():
                await ws.send(encode(Said(room, message.text)).decode())


if __name__ == "__main__":
    lapwing.run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8080, default=chat)
