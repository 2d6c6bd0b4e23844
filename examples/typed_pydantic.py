"""Typed messages with pydantic: a union of models, told apart by `type`; an invalid one is answered with its errors.

Usage: python typed_pydantic.py [PORT]
"""

import sys
from typing import Annotated, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

import lapwing


class Join(BaseModel):
    type: Literal["join"]
    room: str


class Say(BaseModel):
    type: Literal["say"]
    text: str = Field(max_length=500)


class Said(BaseModel):
    type: Literal["said"] = "said"
    room: str
    text: str


messages: TypeAdapter[Join | Say] = TypeAdapter(Annotated[Join | Say, Field(discriminator="type")])


async def chat(ws: lapwing.Connection) -> None:
    room = "hall"
    async for text in ws:
        try:
            message = messages.validate_json(text)
        except ValidationError as error:
            await ws.send_json({"type": "error", "errors": error.errors(include_url=False, include_input=False)})
            continue
        if isinstance(message, Join):
            room = message.room
        else:
            await ws.send(Said(room=room, text=message.text).model_dump_json())


if __name__ == "__main__":
    lapwing.run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8080, default=chat)
