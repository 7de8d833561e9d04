"""Holds TensorZero's embedded HTTP gateway open: tensorzero_server.py CONFIG READY_PORT PORT_FILE

The wheel carries the whole gateway in Rust and chooses the port itself: it is written to PORT_FILE, and READY_PORT
listens once it is there. Python only waits.
"""

import signal
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tensorzero import _start_http_gateway

config, ready_port, port_file = sys.argv[1:]
gateway = _start_http_gateway(
    config_file=config, clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
Path(port_file).write_text(str(urlsplit(gateway.base_url).port))
with socket.create_server(("127.0.0.1", int(ready_port))):
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
gateway.close()
