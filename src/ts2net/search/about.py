"""What an index is made with. It stands in the schema of the table, so that no second file can disagree with it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from .windows import WindowChoice, WindowSettings

FORMAT = 4  # raise it when the tables change
SEARCHABLE_FORMATS = (3, FORMAT)
CONVERTIBLE_FORMATS = (2, 3)  # the first write converts an index of these


@dataclass(frozen=True)
class About:
    """What an index is made with. All fields but `model` and `revision` decide scores.

    Args:
        model: The model's folder or repository.
        revision: Commit of the repository; `None` for a folder.
        fingerprint: Of the model and its processor, see `encoding.fingerprint`.
        dtype: Type of the weights, such as `"float32"`.
        precision: What the layers that see single frames computed in: `"int8"`, or that type. PyTorch and ONNX Runtime
            agree to 1e-4 in one precision, so which of them it was is not for scores to tell.
        dim: Width `D` of an embedding.
        windows: How videos are cut.
        matching_kind: As in the model's configuration, like the next two.
        temperature: Of the matching.
        padding_mode: `"masked"` or `"released"`.
        logit_scale: Factor of a similarity: the exponential of the model's own parameter.
        format: Version of the tables.
    """

    model: str
    revision: str | None
    fingerprint: str
    dtype: str
    dim: int
    windows: WindowSettings
    matching_kind: str
    temperature: float
    padding_mode: str
    logit_scale: float
    precision: str = ""
    format: int = FORMAT

    def __post_init__(self) -> None:
        if not self.precision:  # indexes had none before there was int8
            object.__setattr__(self, "precision", self.dtype)

    def to_json(self) -> str:
        """The text for the schema."""
        fields = asdict(self)
        if self.precision == self.dtype:
            del fields["precision"]  # versions from before there was int8 read what they can mix with
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str | bytes, location: str) -> "About":
        """Read the text of a schema.

        Args:
            text: The text.
            location: Of the index, for errors.

        Raises:
            AboutError: If the format is neither this one nor one that can be converted, or the table is not of this
                package.
        """
        foreign = f"{location}: not an index that `ts2net index` wrote"
        try:
            fields = json.loads(text)
            version = fields["format"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise AboutError(foreign) from None
        if version not in (FORMAT, *CONVERTIBLE_FORMATS):
            is_newer = isinstance(version, int) and version > FORMAT
            advice = "update ts2net" if is_newer else "index the videos again, into another folder"
            raise AboutError(
                f"{location}: an index of format {version!r}, and this ts2net reads format {FORMAT}: {advice}"
            )
        try:
            return cls(**fields | {"windows": WindowSettings(**fields["windows"])})
        except (ValueError, KeyError, TypeError) as error:
            raise AboutError(foreign) from error


class AboutError(ValueError):
    """The index is of another format, or of another program."""


def check_windows(path: str, about: About, windows: WindowSettings | WindowChoice | None) -> None:
    """Check that videos are to be cut as in an index.

    Raises:
        ValueError: If not.
    """
    choice = windows or WindowChoice()
    settings = choice if isinstance(choice, WindowSettings) else choice.complete(about.windows)
    if settings != about.windows:
        raise ValueError(
            f"{path} has windows of {about.windows}, not {settings}: leave out --window, --step and --fps, or choose "
            "another folder for the index"
        )


def check_same_model(path: str, present: About, about: About) -> None:
    """Check that the embeddings of a model can be added to an index.

    Args:
        path: The index.
        present: What it is made with.
        about: What an index with the model is made with.

    Raises:
        ValueError: If they don't compare with those of the index.
    """
    check_windows(path, present, about.windows)
    # The same weights may be in another folder now.
    if replace(present, model=about.model, revision=about.revision, format=about.format) == about:
        return
    if present.dtype != about.dtype:
        raise ValueError(
            f"{path} was made in {present.dtype}, and the model is loaded in {about.dtype}: choose --dtype "
            f"{present.dtype}, or another folder for the index"
        )
    if present.precision != about.precision:
        raise ValueError(
            f"{path} was made in {present.precision}, and the model computes in {about.precision}: choose --precision "
            f"{'int8' if present.precision == 'int8' else 'float32'}, or another folder for the index"
        )
    at = f" at {present.revision}" if present.revision else ""
    raise ValueError(
        f"{path} was made with {present.model}{at}, whose weights, settings or processor differ from those of "
        f"{about.model}: choose that model with --model, or another folder for the index"
    )


def check_same_embeddings(indexes: Mapping[str, About]) -> None:
    """Check that one model made several indexes, so that their scores compare.

    Args:
        indexes: What each is made with, by its location.

    Raises:
        ValueError: If not.
    """
    (first, about), *others = indexes.items()
    for path, other in others:
        if other.fingerprint != about.fingerprint:
            raise ValueError(
                f"{first} was made with {about.model}, and {path} with {other.model}, which is another model or has "
                "another processor: their scores don't compare, so search them one by one"
            )
