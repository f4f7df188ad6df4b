"""Cut the pictures of the moving-things benchmark out of the npm package of Noto emoji.

    npm pack emoji-datasource-google@16.0.0 && tar xzf emoji-datasource-google-16.0.0.tgz
    python bench/moving_things_sheet.py package

Writes `src/ts2net/benchmarks/moving_things/sheet.png` with one cell for each of `THINGS`, in the same order.
"""

import argparse
import json
from pathlib import Path

from PIL import Image

from ts2net.benchmarks.moving_things import drawing
from ts2net.benchmarks.moving_things.things import EMOJI, THINGS

SHEET = Path(drawing.__file__).with_name("sheet.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="the unpacked npm package")
    package = parser.parse_args().package
    entries = {(entry["name"] or "").lower(): entry for entry in json.loads((package / "emoji.json").read_text())}
    cell = drawing.SPRITE_SIZE
    with Image.open(package / f"img/google/sheets/{cell}.png") as source:
        emoji = source.convert("RGBA")
    columns = drawing.SHEET_COLUMNS
    sheet = Image.new("RGBA", (cell * columns, cell * -(-len(THINGS) // columns)))
    for index, thing in enumerate(THINGS):
        entry = entries[EMOJI.get(thing, thing)]
        # Each emoji of the package's sheet has a border of one transparent pixel.
        left, top = entry["sheet_x"] * (cell + 2) + 1, entry["sheet_y"] * (cell + 2) + 1
        row, column = divmod(index, columns)
        sheet.paste(emoji.crop((left, top, left + cell, top + cell)), (cell * column, cell * row))
    sheet.save(SHEET, optimize=True)
    print(f"{SHEET}: {len(THINGS)} pictures, {SHEET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
