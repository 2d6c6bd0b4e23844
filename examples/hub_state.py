"""State and messages together: the state is loaded first, and reloaded whenever messages may have been lost."""

import asyncio

import lapwing

hub = lapwing.Hub()
database = {"balance": 0}


@hub.topic("account:*", history=100)
def account(ask: lapwing.hub.Ask) -> None:
    """Clients may subscribe."""


async def load(_position: int) -> dict[str, int]:
    """Load the state at a position or later: messages must be idempotent, since some may be applied twice."""
    return dict(database)


async def deposit(amount: int) -> None:
    database["balance"] += amount
    await hub.publish("account:1", {"balance": database["balance"]})


async def main() -> None:
    async with hub:
        await deposit(10)
        async with hub.subscribe("account:1", state=load) as messages:
            await deposit(5)
            message = await anext(messages)
            print("loaded", messages.state, "then", message.data)


if __name__ == "__main__":
    asyncio.run(main())
