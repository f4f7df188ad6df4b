"""Server of the page: Gradio's server behind [`Guard`], and a route that sends only indexed videos.

A request names a window of the index instead of a path, and the index determines which bytes are sent. So no request
can contain a malicious path, and members of archives are sent like files.
"""

import mimetypes
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr
from fastapi import FastAPI, Request
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse, Response

from ..encoding.runtimes import RuntimeName
from .api import add_api
from .guard import Guard
from .library import Library
from .page import css, make_page, theme
from .ranges import head_response, range_response
from .uploads import UploadLimits


def create_app(
    index: str | os.PathLike[str],
    *,
    model: str | None = None,
    device: str | None = None,
    runtime: RuntimeName | None = None,
    uploads: str | os.PathLike[str] | None = None,
    read_only: bool = False,
    limits: UploadLimits | None = None,
    hosts: Sequence[str] = ("*",),
    frame_ancestors: Sequence[str] = (),
) -> FastAPI:
    """Create the web application of an index, for uvicorn or any other ASGI server with one process.

    Args:
        index: A folder, or an address that LanceDB accepts.
        model: Current folder or Hub repository of the index's model. By default the location stored in the index.
        device: Device of the model, such as `"cuda:1"`. `None` uses a GPU if there is one.
        runtime: Runtime of the model, as in [`index_videos`]. The precision is the index's; int8 requires `"onnx"`.
        uploads: Folder for the videos that visitors add; by default `INDEX-uploads` beside the index.
        read_only: Whether to refuse new videos.
        limits: Limits of uploads.
        hosts: Host names that requests may use. Other names are refused to prevent DNS rebinding, by which a page on
            the internet reaches a server on this computer under the host name of that page.
        frame_ancestors: Other sites that may show the page in a frame, such as `"https://huggingface.co"`.

    Raises:
        ValueError: If the index was made with another model, or `uploads` is missing for an index at an address.
        OSError: If there is no index or no model.
    """
    limits = limits or UploadLimits()
    folder = None if read_only else _uploads_folder(os.fspath(index), uploads)
    library = Library(index, model=model, device=device, uploads=folder, limits=limits, runtime=runtime)
    arrivals = _arrivals_folder()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if arrivals.is_ours:
            shutil.rmtree(arrivals.path, ignore_errors=True)

    app = FastAPI(title="ts2net", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)

    @app.api_route("/video/{window}", methods=["GET", "HEAD"])
    def video(window: str, request: Request) -> Response:
        try:
            opened_video = library.open_video(window)
        except LookupError:
            return PlainTextResponse("This video is no longer in the index.", status_code=404)
        except FileNotFoundError:
            return PlainTextResponse("The file of this video is gone or has changed.", status_code=404)
        except (ValueError, OSError):
            return PlainTextResponse("The file of this video can't be read.", status_code=404)
        headers = {
            "Content-Type": _media_type(opened_video.name),
            "Content-Disposition": "inline",
            "Cache-Control": "private, no-cache",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        if request.method == "HEAD":
            return head_response(opened_video.file, opened_video.size, headers)
        return range_response(opened_video.file, opened_video.size, request.headers.get("range"), headers)

    add_api(app, library)
    gr.mount_gradio_app(
        app,
        make_page(library, arrivals.path),
        path="/",
        allowed_paths=[],
        max_file_size=limits.bytes,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        run_history=False,
        enable_monitoring=False,
        footer_links=[],
        theme=theme(),
        css=css(),
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
    )
    app.add_middleware(Guard, limits=limits, folder=arrivals.path, frame_ancestors=frame_ancestors)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    return app


class _Arrivals(NamedTuple):
    path: Path
    is_ours: bool


@cache
def _arrivals_folder() -> _Arrivals:
    """Return the folder in which Gradio stores uploads until they are used. Gradio reads it from the environment.

    By default all Gradio pages on a computer share one folder. Because the stored uploads are counted, this process
    gets its own folder.
    """
    if "GRADIO_TEMP_DIR" in os.environ:
        return _Arrivals(Path(os.environ["GRADIO_TEMP_DIR"]), False)
    folder = os.path.realpath(tempfile.mkdtemp(prefix="ts2net-uploads-"))
    os.environ["GRADIO_TEMP_DIR"] = folder
    return _Arrivals(Path(folder), True)


def _uploads_folder(index: str, uploads: str | os.PathLike[str] | None) -> Path:
    if uploads is not None:
        return Path(uploads)
    if urlsplit(index).scheme and "://" in index:
        raise ValueError(f"{index}: there is no folder beside it for added videos; name one, or make it read-only")
    path = Path(index).resolve()
    return path.with_name(f"{path.name}-uploads")


def _media_type(name: str) -> str:
    """Return the media type of a file for browsers. It is always a video type, whatever the name suggests."""
    guessed = mimetypes.guess_type(name)[0] or ""
    return guessed if guessed.startswith("video/") else "video/mp4"
