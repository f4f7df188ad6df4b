"""Tables of the runs, with mean and standard deviation over the seeds."""

import statistics
from typing import Any

from loop import CHANCE, MOVED, NOT_MOVED, ON_THINGS, SMALL_FOUND
from models import ROWS

TABLES = {
    "modules": "What the modules find",
    "choice": "Choice of patches",
    "shift": "Kind of shift",
    "layers": "Layers that shift, of four",
    "K": "Patches that are kept beside [CLS]",
    "matching": "Matching",
    "tower": "Image tower",
}
_WITH_SELECTION = ("modules", "choice", "K", "tower")
_WITH_SHIFT = ("shift", "layers", "tower")


def cell(values: list[float]) -> str:
    """Format mean and standard deviation, or a single value alone."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):.1f}"
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def tables(runs: list[dict[str, Any]], splits: list[str]) -> str:
    parts = []
    for key, title in TABLES.items():
        columns = [*splits, *((ON_THINGS, CHANCE, SMALL_FOUND) if key in _WITH_SELECTION else ())]
        columns += [MOVED, NOT_MOVED] if key in _WITH_SHIFT else []
        lines = [
            f"| {' | '.join([title, *columns, 'seeds']).replace('_', ' ')} |",
            f"|{' --- |' * (len(columns) + 2)}",
        ]
        for row in ROWS:
            row_runs = [each for each in runs if each["row"] == row.name]
            if key in row.names and row_runs:
                cells = [cell([each[column] for each in row_runs if column in each]) for column in columns]
                lines.append(f"| {' | '.join([row.names[key], *cells, str(len(row_runs))])} |")
        if len(lines) > 2:
            parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"
