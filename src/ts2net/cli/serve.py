"""`ts2net app`: serve the web page of an index, or write it as a Space."""

import ipaddress
import socket
from pathlib import Path
from typing import Annotated

import typer

from .app import app, hush_loading
from .options import Device, IndexModel, OptionalRuntime


@app.command("app")
def serve(
    index: Annotated[str, typer.Argument(metavar="INDEX", help="Made by `ts2net index`.", show_default=False)],
    host: Annotated[
        str, typer.Option(help="Address to listen on. 0.0.0.0 lets other computers in: there is no password.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 is any free one.")] = 7860,
    model: IndexModel = None,
    device: Device = None,
    runtime: OptionalRuntime = None,
    uploads: Annotated[
        Path | None,
        typer.Option(help="Folder for added videos.", show_default="INDEX-uploads"),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Forbid adding videos.")] = False,
    max_upload_mb: Annotated[int, typer.Option(min=1, help="Maximum size of an uploaded file, in megabytes.")] = 200,
    max_upload_seconds: Annotated[
        int, typer.Option(min=1, help="Maximum length of an uploaded video, in seconds.")
    ] = 600,
    max_added_mb: Annotated[
        int, typer.Option(min=1, help="Maximum size of all added videos together, in megabytes.")
    ] = 10_000,
    space: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Serve nothing; write a folder that runs the same page as a Hugging Face Space.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Search an index on a web page: results that play from the moment, and why they were found.

    Visitors may also search by a clip, and add a video to the index. Only indexed videos are ever sent.

    **Examples**

        ts2net app my-index

        ts2net app my-index --host 0.0.0.0 --read-only

        ts2net app my-index --space my-space && hf upload me/my-space my-space . --repo-type space
    """
    from ..app import UploadLimits

    limits = UploadLimits(max_upload_mb, max_upload_seconds, max_added_mb)
    if space is not None:
        _check_index(index)
        from ..app import write_space

        hush_loading()
        written = write_space(index, space, model=model, limits=limits, read_only=read_only)
        print(f"wrote {written.videos:,} videos and the page to {space}")
        return

    with _listen(host, port) as listener:
        _check_index(index)
        import uvicorn

        from ..app import create_app

        hush_loading()
        page = create_app(
            index,
            model=model,
            device=device,
            runtime=runtime,
            uploads=uploads,
            read_only=read_only,
            limits=limits,
            hosts=_names(host),
        )
        print(f"the page is at http://{_in_address(host)}:{listener.getsockname()[1]} (Ctrl-C ends it)", flush=True)
        uvicorn.Server(uvicorn.Config(page, log_level="warning")).run(sockets=[listener])


def _check_index(index: str) -> None:
    """Check that there is an index, before torch is imported."""
    from ..search.store import Store

    Store.open(index)


def _listen(host: str, port: int) -> socket.socket:
    """Open the port before the model is loaded, so that an error is reported at once."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(f"can't listen on {host}, port {port}: {error.strerror or error}") from error


def _names(host: str) -> tuple[str, ...]:
    """Return the host names that requests may use: local names if `host` is a loopback address, or else any name."""
    return ("localhost", "127.0.0.1", "[::1]", _in_address(host)) if _is_loopback(host) else ("*",)


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
