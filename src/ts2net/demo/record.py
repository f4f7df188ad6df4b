"""Record in a demo's folder: its settings, the duration of its steps, and its results."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..data.manifest import to_json
from ..files import write_whole


class Record:
    """The file `demo.json`, which is written after each change.

    Args:
        folder: The demo's folder.
        settings: The settings that the content of the folder depends on.

    Raises:
        ValueError: If the folder was made with other settings, or the file is not a record.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._path = folder / "demo.json"
        self.seconds: dict[str, float] = {}
        """Total duration of each step in seconds, over all runs."""
        self.figures: dict[str, float] = {}
        """Metrics of the trained model."""
        self._settings = json.loads(json.dumps(settings))
        if not self._path.exists():
            self._save()
            return
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            recorded, self.seconds, self.figures = (content[name] for name in ("settings", "seconds", "figures"))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self._path}: not the record of a demo; give another --out") from error
        if recorded != self._settings:
            raise ValueError(
                f"{folder} holds a demo that was made with other settings: delete it, or give another --out"
            )

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the duration of the block to the total of a step, even if the block raises."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - start
            self._save()

    def keep_figures(self, figures: Mapping[str, float]) -> None:
        """Record the metrics of the model."""
        self.figures = dict(figures)
        self._save()

    def _save(self) -> None:
        content = {"settings": self._settings, "seconds": self.seconds, "figures": self.figures}
        write_whole(self._path, to_json(content))
