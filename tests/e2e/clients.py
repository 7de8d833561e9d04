"""Small unmodified apps, one for each way to speak HTTP: each asks OpenAI's chat and prints the answer's text.

They know the provider's own address and what their runtime reads from the environment, and nothing of any sidecar.
"""

_BODY = '{"model": "gpt-4o", "messages": [{"role": "user", "content": "hello big world"}]}'
URL = "https://api.openai.com/v1/chat/completions"

_PYTHON_HEAD = f"""
import json, os
url = {URL!r}
body = {_BODY!r}.encode()
headers = {{"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "content-type": "application/json"}}
def show(text):
    print(json.loads(text)["choices"][0]["message"]["content"])
"""

PYTHON = {
    "requests": """
import requests
show(requests.post(url, data=body, headers=headers, timeout=120).text)
""",
    "httpx": """
import httpx
show(httpx.post(url, content=body, headers=headers, timeout=120).text)
""",
    "httpx, async": """
import asyncio, httpx
async def main():
    async with httpx.AsyncClient() as client:
        show((await client.post(url, content=body, headers=headers, timeout=120)).text)
asyncio.run(main())
""",
    "urllib": """
import urllib.request
with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=120) as answer:
    show(answer.read())
""",
    "aiohttp with trust_env": """
import aiohttp, asyncio
async def main():
    async with aiohttp.ClientSession(trust_env=True) as session:
        async with session.post(url, data=body, headers=headers) as answer:
            show(await answer.text())
asyncio.run(main())
""",
    "boto3": """
import boto3
client = boto3.client("bedrock-runtime", region_name="us-east-1")
asked = [{"role": "user", "content": [{"text": "hello big world"}]}]
made = client.converse(modelId="anthropic.claude-3-haiku-20240307-v1:0", messages=asked)
print(made["output"]["message"]["content"][0]["text"])
""",
}

_TALK = """
def talk(send, receive):
    assert json.loads(receive())["type"] == "session.created"
    content = [{"type": "input_text", "text": "hello big world"}]
    item = {"type": "message", "role": "user", "content": content}
    send(json.dumps({"type": "conversation.item.create", "item": item}))
    send(json.dumps({"type": "response.create"}))
    while (event := json.loads(receive()))["type"] != "response.done":
        pass
    print(event["response"]["output"][0]["content"][0]["text"])
"""
REALTIME = {
    "websockets, key as Bearer": """
from websockets.sync.client import connect
with connect(url, additional_headers=headers, subprotocols=["realtime"]) as socket:
    talk(socket.send, socket.recv)
""",
    "websockets, key as subprotocol": """
from websockets.sync.client import connect
protocols = ["realtime", "openai-insecure-api-key." + os.environ["OPENAI_API_KEY"]]
with connect(url, subprotocols=protocols) as socket:
    assert socket.subprotocol == "realtime"
    talk(socket.send, socket.recv)
""",
    "openai SDK": """
import openai
with openai.OpenAI() as client, client.realtime.connect(model="gpt-realtime") as connection:
    talk(lambda text: connection.send(json.loads(text)), connection.recv_bytes)
""",
    "aiohttp with trust_env": """
import aiohttp, asyncio
async def main():
    async with aiohttp.ClientSession(trust_env=True) as session:
        async with session.ws_connect(url, headers=headers, protocols=["realtime"]) as socket:
            assert (await socket.receive_json())["type"] == "session.created"
            content = [{"type": "input_text", "text": "hello big world"}]
            item = {"type": "message", "role": "user", "content": content}
            await socket.send_json({"type": "conversation.item.create", "item": item})
            await socket.send_json({"type": "response.create"})
            while (event := await socket.receive_json())["type"] != "response.done":
                pass
            print(event["response"]["output"][0]["content"][0]["text"])
asyncio.run(main())
""",
}


def python(name: str) -> str:
    return _PYTHON_HEAD + PYTHON[name]


def realtime(name: str) -> str:
    return _PYTHON_HEAD + "url = 'wss://api.openai.com/v1/realtime?model=gpt-realtime'\n" + _TALK + REALTIME[name]


_NODE_HEAD = f"""
const url = process.env.TEST_URL || {URL!r};
const body = {_BODY!r};
const key = process.env.OPENAI_API_KEY;
const headers = {{authorization: `Bearer ${{key}}`, 'content-type': 'application/json'}};
const show = text => console.log(JSON.parse(text).choices[0].message.content);
const read = (answer, then) => {{
    let text = '';
    answer.on('data', data => text += data);
    answer.on('end', () => then(text));
}};
"""
NODE = {
    "fetch": "fetch(url, {method: 'POST', headers, body}).then(answer => answer.text()).then(show);",
    "https": """
const request = require('https').request(url, {method: 'POST', headers}, answer => read(answer, show));
request.end(body);
""",
    # Node 20 knows no proxy: what an agent for it does, to see that NODE_EXTRA_CA_CERTS is enough for its trust.
    "https by an own CONNECT": """
const https = require('https'), proxy = new URL(process.env.HTTPS_PROXY);
const connect = require('http').request(
    {host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: 'api.openai.com:443'});
connect.on('connect', (answer, socket) => {
    const agent = new https.Agent({keepAlive: false});
    const request = https.request(url, {method: 'POST', headers, agent, socket, servername: 'api.openai.com',
        createConnection: () => require('tls').connect({socket, servername: 'api.openai.com'})},
        answer => read(answer, text => { show(text); socket.destroy(); }));
    request.end(body);
});
connect.end();
""",
    "openai": """
const OpenAI = require('openai').default;
new OpenAI().chat.completions.create({model: 'gpt-4o', messages: JSON.parse(body).messages})
    .then(made => console.log(made.choices[0].message.content));
""",
    "openai, streamed": """
const OpenAI = require('openai').default;
(async () => {
    const asked = {model: 'gpt-4o', messages: JSON.parse(body).messages, stream: true};
    let text = '';
    for await (const chunk of await new OpenAI().chat.completions.create(asked)) {
        if (chunk.usage || !chunk.choices.length) throw new Error('a chunk that the app did not ask for');
        text += chunk.choices[0].delta.content ?? '';
    }
    console.log(text);
})();
""",
    "WebSocket": """
const socket = new WebSocket('wss://api.openai.com/v1/realtime?model=gpt-realtime',
    ['realtime', `openai-insecure-api-key.${key}`]);
socket.onopen = () => {
    const content = [{type: 'input_text', text: 'hello big world'}];
    socket.send(JSON.stringify({type: 'conversation.item.create', item: {type: 'message', role: 'user', content}}));
    socket.send(JSON.stringify({type: 'response.create'}));
};
socket.onmessage = ({data}) => {
    const event = JSON.parse(data);
    if (event.type === 'response.done') { console.log(event.response.output[0].content[0].text); socket.close(); }
};
socket.onerror = error => { console.error(error.message); process.exit(1); };
""",
}


def node(name: str) -> str:
    return _NODE_HEAD + NODE[name]


_JAVA_BODY = _BODY.replace('"', '\\"')
JAVA = f"""
import java.io.*;
import java.net.*;
import java.net.http.*;
import java.nio.charset.StandardCharsets;

public class App {{
    static final String BODY = "{_JAVA_BODY}";

    public static void main(String[] args) throws Exception {{
        String key = "Bearer " + System.getenv("OPENAI_API_KEY");
        for (String word : args) {{
            String text = word.startsWith("old ") ? old(word.substring(4), key) : fresh(word, key);
            int at = text.indexOf("\\"content\\":\\"") + 11;
            System.out.println(text.substring(at, text.indexOf('"', at)));
        }}
    }}

    static String fresh(String url, String key) throws Exception {{
        HttpRequest request = HttpRequest.newBuilder(URI.create(url))
            .header("authorization", key).header("content-type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(BODY)).build();
        return HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body();
    }}

    static String old(String url, String key) throws Exception {{
        HttpURLConnection connection = (HttpURLConnection) new URL(url).openConnection();
        connection.setRequestMethod("POST");
        connection.setRequestProperty("authorization", key);
        connection.setRequestProperty("content-type", "application/json");
        connection.setDoOutput(true);
        connection.getOutputStream().write(BODY.getBytes(StandardCharsets.UTF_8));
        return new String(connection.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    }}
}}
"""

GRPC = """
import os, grpc
roots = None  # GRPC_DEFAULT_SSL_ROOTS_FILE_PATH
with grpc.secure_channel("api.openai.com:443", grpc.ssl_channel_credentials(roots)) as channel:
    call = channel.unary_unary("/a.B/C", request_serializer=bytes, response_deserializer=bytes)
    try:
        call(b"", timeout=120)
    except grpc.RpcError as error:
        print(error.code().name)
"""

# A client that speaks HTTP/2 and nothing else, as far as the handshake goes.
H2_ONLY = """
import os, socket, ssl, urllib.parse
proxy = urllib.parse.urlsplit(os.environ["HTTPS_PROXY"])
with socket.create_connection((proxy.hostname, proxy.port), 10) as raw:
    raw.sendall(b"CONNECT api.openai.com:443 HTTP/1.1\\r\\nhost: api.openai.com:443\\r\\n\\r\\n")
    assert raw.recv(4096).startswith(b"HTTP/1.1 200 ")
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2"])
    try:
        context.wrap_socket(raw, server_hostname="api.openai.com")
    except OSError as error:
        print(error)
"""

CURL = ["curl", "-sS", "--max-time", "20", "-H", "content-type: application/json", "-d", _BODY]
WGET = ["wget", "-q", "-O", "-", "--timeout=120", "--header=content-type: application/json", f"--post-data={_BODY}"]
