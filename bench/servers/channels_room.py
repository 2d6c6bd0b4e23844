"""A group of Django Channels: in memory, or with channels_redis, by `--variant pubsub` with its layer over PUBLISH."""

import _asgi
import django
from _program import run
from django.conf import settings

LAYERS = {
    "": "channels_redis.core.RedisChannelLayer",
    "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
}


def make_application(options):
    layer = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    if options.redis:
        layer = {"BACKEND": LAYERS[options.variant], "CONFIG": {"hosts": [options.redis]}}
    settings.configure(CHANNEL_LAYERS={"default": layer})
    django.setup()

    from channels.generic.websocket import AsyncWebsocketConsumer
    from channels.routing import ProtocolTypeRouter, URLRouter
    from django.urls import path

    class Room(AsyncWebsocketConsumer):
        async def connect(self):
            await self.channel_layer.group_add("room", self.channel_name)
            await self.accept()
            await self.send(text_data="joined")

        async def disconnect(self, _code):
            await self.channel_layer.group_discard("room", self.channel_name)

        async def receive(self, text_data):
            await self.channel_layer.group_send("room", {"type": "room.message", "text": text_data})

        async def room_message(self, event):
            await self.send(text_data=event["text"])

    return ProtocolTypeRouter({"websocket": URLRouter([path("", Room.as_asgi())])})


async def main(options):
    await _asgi.serve(make_application(options), options)


run(main)
