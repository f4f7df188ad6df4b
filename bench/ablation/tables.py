"""The tables and plots of the runs: mean and standard deviation over seeds."""

import math
import statistics
from pathlib import Path
from typing import Any

from loop import DOTS, PLACES, SPLITS
from models import ROWS

TABLES = {
    "modules": "What is added to mean pooling",
    "shift": "Kind of shift",
    "layers": "Layers that shift, of four",
    "ratio": "Share of patches that shift",
    "K": "Patches that are kept beside [CLS]",
    "choice": "Choice of patches",
}


def cell(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else math.nan
    return f"{statistics.mean(values):.1f} ± {deviation:.1f}"


def tables(runs: list[dict[str, Any]]) -> str:
    parts = []
    for key, title in TABLES.items():
        columns = [*SPLITS, DOTS, PLACES] if key == "choice" else [*SPLITS]
        lines = [f"| {' | '.join([title, *columns]).replace('_', ' ')} |", f"|{' --- |' * (len(columns) + 1)}"]
        for row in ROWS:
            own = [each for each in runs if each["row"] == row.name]
            if key in row.names and own:
                cells = [cell([each[column] for each in own]) for column in columns]
                lines.append(f"| {' | '.join([row.names[key], *cells])} |")
        if len(lines) > 2:
            parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def plot(runs: list[dict[str, Any]], out: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    for key, title in TABLES.items():
        rows = [row for row in ROWS if key in row.names and any(each["row"] == row.name for each in runs)]
        if not rows:
            continue
        figure, axes = pyplot.subplots(figsize=(7, 1.2 + 0.6 * len(rows)), layout="constrained")
        for place, split in enumerate(SPLITS):
            values = [[each[split] for each in runs if each["row"] == row.name] for row in rows]
            axes.barh(
                [number + 0.27 * (place - 1) for number in range(len(rows))],
                [statistics.mean(each) for each in values],
                xerr=[statistics.stdev(each) if len(each) > 1 else 0 for each in values],
                height=0.25,
                label=split.replace("_", " "),
            )
        axes.set_yticks(range(len(rows)), [row.names[key] for row in rows])
        axes.invert_yaxis()
        axes.set(title=title, xlabel="text-to-video R@1, %, mean and standard deviation over seeds", xlim=(0, 100))
        axes.legend(loc="lower right")
        figure.savefig(out / f"{key}.png", dpi=120)
        pyplot.close(figure)
