"""What of the server may be reached, and what a page of it may reach.

Notable here: Gradio's own server can hand out files by their paths, fetch addresses for a client and convert videos
on request. The page needs none of that, so everything of Gradio's interface but what the page uses is closed.
"""

import re

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_USED_BY_THE_PAGE = {
    "app_id",
    "call",
    "cancel",
    "heartbeat",
    "info",
    "login_check",
    "queue",
    "reset",
    "run",
    "startup-events",
    "theme.css",
    "upload",
    "upload_progress",
    "user",
}

# Gradio's scripts stand in the page and evaluate its templates. Whatever they do, they can't load from elsewhere.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; form-action 'self'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """ASGI middleware: closes what the page doesn't use, and tells browsers to load nothing from elsewhere.

    Args:
        app: What it guards.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        asked = re.search(r"gradio_api(?:/+([^/=]*))?", scope["path"])
        if asked and asked[1] not in _USED_BY_THE_PAGE:
            await PlainTextResponse("Not found", status_code=404)(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)
