"""A web server on this machine that misbehaves on purpose: each function is one way to answer."""

import http.server
import socket
import struct
import threading
import time


class BadServer:
    """Answers each request in the next of the given ways, and all further ones in the last way.

    Use it in a `with` block. `url` is its address; `requests` lists the requested paths.
    """

    def __init__(self, body, *ways):
        self.body, self.ways, self.requests = body, ways, []
        self.closing = threading.Event()
        owner, lock = self, threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                with lock:
                    owner.requests.append(self.path)
                    way = owner.ways[min(len(owner.requests), len(owner.ways)) - 1]
                try:
                    way(self, owner)
                except OSError:  # the other side has gone
                    self.close_connection = True

            def log_message(self, *arguments):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads, self.http.block_on_close = True, False
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self):
        threading.Thread(
            target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def __exit__(self, *error):
        self.closing.set()
        self.http.shutdown()
        self.http.server_close()


def _send(handler, body, length=None, status=200, kind="application/octet-stream"):
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)
    handler.wfile.flush()


def good(handler, server):
    _send(handler, server.body)


def slow(handler, server):
    """Sends the right body, so late that other requests arrive meanwhile."""
    time.sleep(0.7)
    _send(handler, server.body)


def truncated(handler, server):
    _send(handler, server.body[: len(server.body) // 2], len(server.body))


def flipped(handler, server):
    middle = len(server.body) // 2
    _send(
        handler, server.body[:middle] + bytes([server.body[middle] ^ 1]) + server.body[middle + 1 :]
    )


def short(handler, server):
    _send(handler, server.body[:-100])


def long(handler, server):
    _send(handler, server.body * 3)


def endless(handler, server):
    """Sends no length and never stops."""
    handler.send_response(200)
    handler.end_headers()
    while not server.closing.is_set():
        handler.wfile.write(server.body)


def page(handler, server):
    _send(
        handler,
        b"\n<!DOCTYPE html><html><body>Please log in to the network</body></html>",
        kind="text/html",
    )


def redirect(handler, server):
    if handler.path.startswith("/moved"):
        return good(handler, server)
    handler.send_response(302)
    handler.send_header("Location", "/moved" + handler.path)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def loop(handler, server):
    handler.send_response(302)
    handler.send_header("Location", handler.path)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def stall(handler, server):
    truncated(handler, server)
    server.closing.wait(60)


def silent(handler, server):
    server.closing.wait(60)


def trickle(handler, server):
    """Sends a byte now and then, so that no single read waits for long."""
    _send(handler, b"", len(server.body))
    while not server.closing.wait(0.02):
        handler.wfile.write(b"x")
        handler.wfile.flush()


def reset(handler, server):
    truncated(handler, server)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.shutdown(socket.SHUT_RD)
    handler.connection.close()


def status(code):
    return lambda handler, server: _send(handler, b"no", status=code)
