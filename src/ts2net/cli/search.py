"""`ts2net search`: find moments of videos with sentences."""

import contextlib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from ..files import check_writable, write_whole
from .app import app, hush_loading
from .hits import print_hits, printable
from .options import Device, IndexModel, Json, PathPattern, Where, check_output, named_values
from .output import print_json

if TYPE_CHECKING:
    from ..search.hits import Hit
    from ..search.options import SearchOptions

_LOCATIONS = ("/", "./", "../", "~/", ".\\", "..\\")  # prefixes of arguments that are indexes, not texts
_MORE = "more"


@app.command()
def search(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="INDEX... [TEXT...]",
            help="One index or several, then the sentences to search for.",
            show_default=False,
        ),
    ],
    k: Annotated[int, typer.Option("-k", min=1, help="Moments a text.")] = 10,
    per_video: Annotated[int, typer.Option(min=0, help="Moments of one video at most; 0 is any number.")] = 3,
    fold: Annotated[
        bool,
        typer.Option("--fold/--no-fold", help="List copies of a moment as one result, with the location of each."),
    ] = True,
    search_in: Annotated[
        Literal["picture", "speech"] | None,
        typer.Option("--in", help="Search only pictures, or only speech that subtitles give.", show_default="both"),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            help="Only pictures of at least this score; -inf lists all.",
            show_default="what one unrelated sentence in ten reaches",
        ),
    ] = None,
    exact: Annotated[
        bool | None,
        typer.Option(
            "--exact/--approximate",
            help="Score every window, or only the candidates of the vector index.",
            show_default="approximate where there is a vector index, which large indexes have",
        ),
    ] = None,
    path: PathPattern = None,
    where: Where = None,
    as_json: Json = False,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write a page of pictures that play.", show_default=False),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Also cut the moments out into this folder; or write them as FILE.csv or FILE.edl.",
            show_default=False,
        ),
    ] = None,
    model: IndexModel = None,
    device: Device = None,
) -> None:
    """Find the moments of videos that sentences describe, or in which their words are spoken, best first.

    The first argument is an index. Those that follow are indexes too, up to the first that is a text: an argument is
    an index if there is one of that name, or if it begins with `/`, `./`, `../` or `~/` or has `://` in it. Several
    indexes have to be made with one model.

    Without a text, texts are read from standard input, a line each, and the model is loaded once; in a terminal,
    `more` lists further moments for the last text.

    What is spoken is known of videos with subtitles, beside them or inside. A moment has to have all words of the
    sentence, and is found at the second at which they begin.

    A picture that fits no better than chance is left out: of a few hundred unrelated sentences that were searched for
    when the index was made, one in ten reaches that score.

    The score is the model's own, whichever way the search goes; windows that overlap a better one are left out. Code
    that comes with a model is never run.

    **Examples**

        ts2net search my-index "a dog catches a frisbee"

        ts2net search my-index

        ts2net search holidays work "a goal is scored" -k 3 --path '*/2024/*' --where league=women --html goals.html

        ts2net search my-index "a goal is scored" --export goals

        ts2net search my-index "we choose to go to the moon" --in speech

        ts2net search my-index "rain" "snow" --json | jq '.results[0].hits[0].video'

    **JSON**

        {
          "indexes": [str],
          "results": [{"text": str, "hits": [
            {"video": str, "start": float, "end": float, "second": float, "score": float | null,
             "chance": float | null, "found_in": ["picture" | "speech"], "spoken": str | null, "window": str,
             "index": str, "metadata": {str: str},
             "copies": [{"video": str, "start": float, "end": float, "window": str}]}
          ]}]
        }

    Times are seconds from the start of the video; "second" is where the best frame is or the words are spoken, "score"
    null where only these are found, "chance" the share of unrelated sentences that reach this score, "spoken" what is
    said around the words, and "copies" show the same.
    For texts from standard input, each result is printed in a line of its own.
    """
    metadata = named_values("--where", where)
    _check_outputs(html, export)
    with contextlib.redirect_stdout(sys.stderr):  # output of libraries must not mix with the results
        paths, texts = _indexes_and_texts(arguments)
        if not texts and (html is not None or export is not None):
            raise typer.BadParameter("needs texts on the command line", param_hint="--html, --export")
        _check_indexes(paths, metadata)
        from ..search.options import SearchOptions

        options = SearchOptions(
            k=k,
            exact=exact,
            path=path,
            metadata=metadata,
            search_in=search_in,
            min_score=min_score,
            per_video=per_video or None,
            fold=fold,
        )
        searcher = _Searcher(paths, model, device, options)
    if not texts:
        _answer_lines(searcher, as_json)
        return
    with contextlib.redirect_stdout(sys.stderr):
        results = list(zip(texts, searcher.find(texts, options), strict=True))
        for text, hits in results:
            if not hits:
                searcher.warn_of_nothing(text)
        if html is not None:
            from ..pages.search import Answer, render_search_page

            names = ", ".join(Path(index).name or index for index in paths)
            write_whole(html, render_search_page(f"Moments of {names}", [Answer(*result) for result in results]))
    if as_json:
        print_json({"indexes": paths, "results": [{"text": text, "hits": _as_dicts(hits)} for text, hits in results]})
    else:
        console = Console(highlight=False)
        for text, hits in results:
            print_hits(console, text, hits)
    if export is not None and not _export(export, results, ", ".join(texts)):
        raise typer.Exit(1)


class _Searcher:
    """Indexes with their model, which is loaded once."""

    def __init__(self, paths: Sequence[str], model: str | None, device: str | None, options: "SearchOptions") -> None:
        from ..search.index import VideoIndex

        self.options = options
        self._indexes = [VideoIndex.open(path, model=model, device=device) for path in paths]
        if options.search_in != "speech" and self._indexes[0].needs_model:  # the first index encodes the texts
            hush_loading()

    def find(self, texts: Sequence[str], options: "SearchOptions") -> "list[list[Hit]]":
        from ..search.several import search_several

        return search_several(self._indexes, texts, options)

    def warn_of_nothing(self, text: str) -> None:
        """Print the reason why nothing was found for a text."""
        (best,) = self.find([text], replace(self.options, k=1, min_score=-math.inf))
        if best and best[0].score is not None:
            reason = f"the best score is {best[0].score:.2f}"
            if best[0].chance is not None:
                reason += (
                    f", and {best[0].chance:.0%} of unrelated sentences reach as much; --min-score=-inf lists all"
                )
        elif self.options.search_in == "speech":
            reason = "no subtitles have all of its words in one moment"
        elif self.options.path is not None or self.options.metadata:
            reason = "no video fits --path and --where"
        else:
            reason = "there is no video in the index"
        print(f"warning: nothing fits {printable(text)!r}: {reason}", file=sys.stderr)


def _indexes_and_texts(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the arguments into the indexes at the beginning and the texts that follow."""
    from ..search.store import Store

    count = 1
    for argument in arguments[1:]:
        is_location = argument.startswith(_LOCATIONS) or "://" in argument.partition(" ")[0]
        if not is_location and not (Path(argument).is_dir() and Store.exists(argument)):
            break
        count += 1
    indexes = [str(Path(index).expanduser()) if index.startswith("~/") else index for index in arguments[:count]]
    return list(dict.fromkeys(indexes)), list(arguments[count:])


def _check_outputs(html: Path | None, export: Path | None) -> None:
    """Check, before any work, that the requested files can be written."""
    if html is not None:
        check_output("--html", html, "a file for the page")
    if export is not None and export.suffix.lower() in (".csv", ".edl"):
        check_output("--export", export, "a table or an edit list")
    elif export is not None and not export.is_dir():
        check_writable(export, "a folder for clips, or a .csv or .edl file")
        if export.suffix:
            raise typer.BadParameter(
                f"expected a folder, or a file that ends in .csv or .edl, got {export}", param_hint="--export"
            )


def _check_indexes(paths: Sequence[str], metadata: dict[str, str]) -> None:
    """Check the indexes and the metadata filters before torch is imported, because the checks need no model."""
    from ..search.about import check_same_embeddings
    from ..search.store import Store

    stores = [Store.open(index) for index in paths]
    for store in stores:
        store.snapshot().check_metadata(metadata)
    check_same_embeddings({store.path: store.about for store in stores})


def _answer_lines(searcher: _Searcher, as_json: bool) -> None:
    """Search for each text of standard input as it arrives."""
    console = Console(highlight=False)
    text, shown = "", 0
    for line in _lines():
        if line == _MORE and text:
            options = replace(searcher.options, k=shown + searcher.options.k)
        else:
            text, shown, options = line, 0, searcher.options
        with contextlib.redirect_stdout(sys.stderr):
            (hits,) = searcher.find([text], options)
        if as_json:
            print(json.dumps({"text": text, "hits": _as_dicts(hits[shown:])}), flush=True)
        elif hits[shown:]:
            print_hits(console, text, hits[shown:], first_rank=shown + 1)
        elif shown:
            print("no more", file=sys.stderr)
        else:
            searcher.warn_of_nothing(text)
        shown = len(hits)


def _lines() -> Iterator[str]:
    """Yield the non-empty lines of standard input, with a prompt in a terminal."""
    is_terminal = sys.stdin.isatty()
    while True:
        if is_terminal:
            print("search: ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            if is_terminal:
                print(file=sys.stderr)
            return
        if line.strip():
            yield line.strip()


def _export(path: Path, results: "Sequence[tuple[str, Sequence[Hit]]]", title: str) -> bool:
    """Write moments to files. Return whether all were written."""
    from ..search.exporting import export_clips, export_edit_list, export_table

    if path.suffix.lower() == ".csv":
        export_table(results, path)
    elif path.suffix.lower() == ".edl":
        export_edit_list(results, path, title)
    else:
        outcomes = list(export_clips(results, path))
        problems = [problem for problem in outcomes if isinstance(problem, str)]
        for problem in problems:
            print(f"warning: {printable(problem)}", file=sys.stderr)
        print(f"{len(outcomes) - len(problems):,} clips are in {path}", file=sys.stderr)
        return not problems
    return True


def _as_dicts(hits: "Sequence[Hit]") -> list[dict[str, Any]]:
    from ..search.hits import hit_fields

    return [hit_fields(hit) | {"index": hit.index, "metadata": dict(hit.metadata)} for hit in hits]
