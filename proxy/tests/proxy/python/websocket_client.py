"""Talks to a WebSocket server at the given port; says `fine` when all went as it should."""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def main(port):
    url = f"ws://127.0.0.1:{port}/chat?room=1"
    async with connect(url, subprotocols=["chat"], compression=None, max_size=None, ping_interval=None) as connection:
        assert connection.subprotocol == "chat"
        for message in ["text", b"\x00\xff" * 10, "", "x" * 200_000, b"y" * 3_000_000]:
            await connection.send(message)
            assert await connection.recv() == message
        # Fragments become one message on the other side.
        await connection.send(["a", "b", "c"])
        assert await connection.recv() == "abc"
        await asyncio.wait_for(await connection.ping(b"from the client"), 10)
        await connection.send("ping me")
        assert await connection.recv() == "ponged"
        await connection.send("close")
        try:
            await connection.recv()
            raise AssertionError("it goes on")
        except ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason) == (4001, "as told"), closed
    async with connect(url, subprotocols=["chat"], compression=None, ping_interval=None) as connection:
        await connection.close(1000, "enough")
        assert connection.close_code == 1000
    print("fine")


asyncio.run(main(sys.argv[1]))
