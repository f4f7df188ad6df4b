"""Checks of the sources of models and datasets: a folder, or a repository on the Hub."""

from pathlib import Path

from huggingface_hub.utils import validate_repo_id


def check_repo_id(repo_id: str, argument: str = "repo_id") -> None:
    """Check that a string is a valid repository id of the Hub.

    Args:
        repo_id: The id.
        argument: Name of the argument, for the message.

    Raises:
        ValueError: If the id is not valid.
    """
    try:
        validate_repo_id(repo_id)
    except ValueError as error:
        raise ValueError(
            f"{argument}={repo_id!r} is not the id of a repository on the Hub ('owner/name'): {error}"
        ) from None


def as_repo_id(source: str) -> str | None:
    """Return the source if it is a repository id, and `None` if it is a path."""
    if Path(source).exists():
        return None
    try:
        check_repo_id(source)
    except ValueError:
        return None
    return source


def check_source(source: str, expected: str) -> None:
    """Check that a source is a folder or a possible repository id, before any request to the Hub.

    Args:
        source: A path or a repository id.
        expected: Description of the expected source, for the message, such as `"a model's folder"`.

    Raises:
        FileNotFoundError: If the source is neither a folder nor a possible repository id.
        NotADirectoryError: If the source is a file.
    """
    path = Path(source)
    if path.is_dir():
        return
    if path.is_file():
        raise NotADirectoryError(f"{source} is a file; expected {expected} or a repository on the Hub")
    # A mistyped path must not be looked up on the Hub, because a repository of that name may exist.
    if "/" not in source or path.parent.is_dir() or as_repo_id(source) is None:
        raise FileNotFoundError(f"there is no folder {source}; a repository on the Hub is 'owner/name'")
