"""History: a subscriber continues from its position, or learns that this is no longer possible. Without a server."""

import asyncio

import lapwing

hub = lapwing.Hub()


@hub.topic("orders:*", history=3)
def orders(ask: lapwing.hub.Ask) -> None:
    """Clients may subscribe; the program itself is not asked."""


async def main() -> None:
    async with hub:
        async with hub.subscribe("orders:7") as messages:
            await hub.publish("orders:7", {"state": "paid"})
            message = await anext(messages)
            print("got", message.data)
            saved = message.position  # an int, which can be stored in a database

        await hub.publish("orders:7", {"state": "packed"})
        await hub.publish("orders:7", {"state": "sent"})
        print("kept", [message.data["state"] for message in await hub.history("orders:7")])

        async with hub.subscribe("orders:7", since=saved) as messages:
            print("missed", [(await anext(messages)).data["state"] for _ in range(2)])

        for number in range(100):
            await hub.publish("orders:7", {"state": f"leg {number}"})
        async with hub.subscribe("orders:7", since=saved) as messages:
            while True:
                try:
                    async for message in messages:
                        print("got", message.data)
                        if message.data["state"] == "delivered":
                            return
                except lapwing.Lost as lost:
                    print("lost: more was published than is kept", lost.since == saved)
                    await hub.publish("orders:7", {"state": "delivered"})


if __name__ == "__main__":
    asyncio.run(main())
