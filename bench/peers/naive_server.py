"""A reverse proxy as it is written in an afternoon: aiohttp's server and client on uvloop, nothing governed.

naive_server.py PORT UPSTREAM_URL CA_FILE, with the provider's key in BENCH_PROVIDER_KEY.
"""

import os
import ssl
import sys

import uvloop
from aiohttp import ClientSession, TCPConnector, web

HOP = {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "authorization"}
CLIENT = web.AppKey("client", ClientSession)


def passed_on(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in HOP}


async def forward(request: web.Request) -> web.StreamResponse:
    headers = passed_on(dict(request.headers)) | {"Authorization": f"Bearer {os.environ['BENCH_PROVIDER_KEY']}"}
    url = sys.argv[2] + request.path_qs
    async with request.app[CLIENT].request(request.method, url, headers=headers, data=await request.read()) as answer:
        sent = passed_on(dict(answer.headers))
        if answer.content_length is not None:
            return web.Response(status=answer.status, headers=sent, body=await answer.read())
        response = web.StreamResponse(status=answer.status, headers=sent)
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
        return response


async def main() -> web.Application:
    app = web.Application(client_max_size=1 << 25)
    connector = TCPConnector(limit=0, ssl=ssl.create_default_context(cafile=sys.argv[3]))
    app[CLIENT] = ClientSession(connector=connector, auto_decompress=False)
    app.router.add_route("*", "/{path:.*}", forward)
    app.on_cleanup.append(lambda app: app[CLIENT].close())
    return app


if __name__ == "__main__":
    uvloop.install()
    web.run_app(main(), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
