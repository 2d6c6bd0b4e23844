"""Rooms in Django with Channels: each message goes to the group, and a view sends to it, too.

Usage: uvicorn --ws lapwing.uvicorn:Protocol django_room:app
"""

from typing import Any
from urllib.parse import parse_qs

from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="a project has one of its own",
    ROOT_URLCONF=__name__,
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
)

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.layers import get_channel_layer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpRequest, JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402


class Room(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        self.room = self.scope["url_route"]["kwargs"]["room"]
        self.name = parse_qs(self.scope["query_string"].decode())["name"][0]
        if self.room == "locked":
            await self.close()
            return
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept()
        await self.send("welcome")

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:  # noqa: ARG002
        await self.channel_layer.group_send(self.room, {"type": "room.says", "text": f"{self.name}: {text_data}"})

    async def room_says(self, event: dict[str, Any]) -> None:
        await self.send(event["text"])

    async def disconnect(self, code: int) -> None:  # noqa: ARG002
        await self.channel_layer.group_discard(self.room, self.channel_name)


async def announce(request: HttpRequest, room: str) -> JsonResponse:
    await get_channel_layer().group_send(room, {"type": "room.says", "text": request.GET["text"]})
    return JsonResponse({"sent": True})


urlpatterns = [path("rooms/<str:room>", announce)]
app = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter([path("rooms/<str:room>", Room.as_asgi())]),
    }
)
