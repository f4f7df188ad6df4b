"""JSON interface for programs, with the same searches and limits as the page.

Every response is a JSON object. An error is `{"error": "a sentence"}` with a status: 400 for an invalid request, 404
for an unknown route, 503 if the index can't be read, and 500 for any other failure.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse

from ..errors import one_line
from ..pages.rendering import printable
from ..search import Hit
from ..search.hits import hit_fields
from .catalogue import Catalogue, ListedVideo
from .library import Library
from .query import Query

FAILED = "The request failed; the server's log has the reason."
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

logger = logging.getLogger(__name__)


def add_api(app: FastAPI, library: Library) -> None:
    """Add the routes `/api/search` and `/api/videos` to an application.

    Args:
        app: The application.
        library: The index.
    """

    @app.get("/api/search", response_model=None)
    @_as_json
    def search(request: Request) -> dict[str, Any]:
        query = Query.of_address(request.url.query)
        hits = library.search(query)
        return {
            "text": query.text,
            "filter": query.filter,
            "in": query.search_in,
            "hits": [_hit_fields(hit, library.catalogue()) for hit in hits],
        }

    @app.get("/api/videos", response_model=None)
    @_as_json
    def videos(request: Request) -> dict[str, Any]:
        query = Query.of_address(request.url.query)
        matching = library.catalogue().matching(query.filter)
        return {"filter": query.filter, "total": len(matching), "videos": _listed(library, matching[: query.count])}

    @app.api_route("/api/{rest:path}", methods=_METHODS)
    def nothing_else(rest: str) -> JSONResponse:
        return JSONResponse({"error": "There is only GET /api/search and GET /api/videos."}, status_code=404)


def _as_json(answer: Callable[[Request], dict[str, Any]]) -> Callable[[Request], JSONResponse]:
    """Wrap a route so that it returns its result, or the message of an error, as JSON."""

    @wraps(answer)
    def answer_or_error(request: Request) -> JSONResponse:
        try:
            return JSONResponse(answer(request))
        except ValueError as error:
            return JSONResponse({"error": one_line(error)}, status_code=400)
        except OSError as error:
            logger.warning("the index can't be read: %s", one_line(error))
            return JSONResponse({"error": one_line(error)}, status_code=503)
        except Exception:
            logger.exception("a request failed")
            return JSONResponse({"error": FAILED}, status_code=500)

    return answer_or_error


def _hit_fields(hit: Hit, catalogue: Catalogue) -> dict[str, Any]:
    return hit_fields(hit, catalogue.name) | {"file": f"/video/{hit.window}", "metadata": _metadata(hit.metadata)}


def _listed(library: Library, videos: Sequence[ListedVideo]) -> list[dict[str, Any]]:
    return [
        {
            "video": video.name,
            "seconds": video.seconds,
            "window": cover.window,
            "file": f"/video/{cover.window}",
            "metadata": _metadata(video.metadata),
        }
        for video, cover in library.covers(videos)
    ]


def _metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    return {printable(name): printable(value) for name, value in metadata.items()}
