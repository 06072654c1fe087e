"""
Serves the headless front end: static files, on an origin of its own.

    python example_project/frontend_server.py

Knows nothing of Django; the environment's PORT and FRONTEND_PORT say where both sides are.
"""

import json
import os
import sys
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FRONTEND_DIR = Path(__file__).resolve().parent / "frontend"
# The package's own file, as `npm install` or a copy would bring it to a front end.
CLIENT_DIR = FRONTEND_DIR.parents[1] / "wagtail_live" / "static" / "wagtail_live"


class FrontendHandler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "newsroom"
    extensions_map = {  # noqa: RUF012 - as the base class declares it
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript; charset=utf-8",
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".svg": "image/svg+xml",
    }

    def __init__(self, *args: object, cms_port: int, **kwargs: object) -> None:
        self.cms_port = cms_port
        super().__init__(*args, directory=str(FRONTEND_DIR), **kwargs)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/config.json":
            return super().do_GET()
        cms = f"localhost:{self.cms_port}"
        config = {"cms": f"http://{cms}", "websocket": f"ws://{cms}/websocket"}
        content = json.dumps(config).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        return None

    def translate_path(self, path: str) -> str:
        name = path.partition("?")[0].removeprefix("/wagtail_live/")
        if name != path.partition("?")[0] and (CLIENT_DIR / Path(name).name).is_file():
            return str(CLIENT_DIR / Path(name).name)
        return super().translate_path(path)

    def list_directory(self, path: object) -> None:
        self.send_error(HTTPStatus.NOT_FOUND)

    def end_headers(self) -> None:
        cms = f"localhost:{self.cms_port}"
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header(
            "Content-Security-Policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; base-uri 'none'; "
            f"img-src 'self' http://{cms}; connect-src 'self' ws://{cms} http://{cms}; "
            "form-action 'none'",
        )
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Be silent: the CMS's lines are the interesting ones."""


class FrontendServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def frontend_server(port: int, cms_port: int) -> FrontendServer:
    """Return a server, bound and ready for ``serve_forever()``."""
    return FrontendServer(("127.0.0.1", port), partial(FrontendHandler, cms_port=cms_port))


if __name__ == "__main__":
    server = frontend_server(
        int(os.environ.get("FRONTEND_PORT") or 3000), int(os.environ.get("PORT") or 8000)
    )
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)
