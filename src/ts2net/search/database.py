"""Opening tables of the database."""

from typing import Any


def open_table(database: Any, name: str) -> Any:
    """A table of a LanceDB database, or `None` if it has not so much as a first version."""
    try:
        return database.open_table(name)
    except (ValueError, FileNotFoundError) as error:
        if "not found" in str(error):
            return None
        raise
