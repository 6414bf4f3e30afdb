"""Says its port, then echoes messages, answers pings by itself, and closes when it is told to."""

import asyncio

from websockets.asyncio.server import serve


async def echo(connection):
    async for message in connection:
        if message == "close":
            await connection.close(4001, "as told")
            return
        elif message == "ping me":
            # Ready when the client's pong has come.
            await (await connection.ping(b"from the origin"))
            await connection.send("ponged")
        else:
            await connection.send(message)


async def main():
    async with serve(echo, "127.0.0.1", 0, subprotocols=["chat"], max_size=None, ping_interval=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


asyncio.run(main())
