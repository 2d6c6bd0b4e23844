"""Publish to a hub without a server: from a cron job with asyncio, and from blocking code, such as Django or Celery.

Usage: python hub_publish.py REDIS_URL
"""

import asyncio
import sys

import lapwing

URL = sys.argv[1]


async def nightly() -> None:
    """A job with asyncio."""
    async with lapwing.Publisher(URL) as publisher:
        position = await publisher.publish("room", "the night is over")
        print("published at", position)


publisher = lapwing.Publisher(URL)  # one for the whole process and all threads; connects with the first message


def order_saved(number: int) -> None:
    """A task or a view without asyncio."""
    try:
        publisher.publish_sync("room", f"order {number} is saved", key=f"order {number}")
    except lapwing.PublishError as error:
        print(error)


if __name__ == "__main__":
    asyncio.run(nightly())
    order_saved(17)
    publisher.close()
