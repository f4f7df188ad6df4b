"""Model and settings of an index. The table's schema stores them, so that no second file can contradict them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from .windows import WindowChoice, WindowSettings

FORMAT = 4  # increment it when the tables change
SEARCHABLE_FORMATS = (3, FORMAT)
CONVERTIBLE_FORMATS = (2, 3)  # the first write converts an index of such a format


@dataclass(frozen=True)
class About:
    """Model and settings of an index. All fields but `model`, `revision` and `format` affect scores.

    Args:
        model: Folder or repository of the model.
        revision: Commit of the repository; `None` for a folder.
        fingerprint: Fingerprint of the model and its processor, see `encoding.fingerprint`.
        dtype: Type of the weights, such as `"float32"`.
        precision: Precision of the layers on single frames: `"int8"`, or the same as `dtype`. The runtime is not
            stored, because PyTorch and ONNX Runtime agree to 1e-4 in the same precision.
        dim: Width `D` of an embedding.
        windows: Window settings.
        matching_kind: Kind of matching, from the model's configuration.
        temperature: Temperature of the matching, from the model's configuration.
        padding_mode: `"masked"` or `"released"`, from the model's configuration.
        logit_scale: Factor of a similarity: the exponential of the model's `logit_scale` parameter.
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
        if not self.precision:  # missing in indexes from before int8 was supported
            object.__setattr__(self, "precision", self.dtype)

    def to_json(self) -> str:
        """Return the text for the schema."""
        fields = asdict(self)
        if self.precision == self.dtype:
            del fields["precision"]  # so that versions before int8 can read the index
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str | bytes, location: str) -> "About":
        """Parse the text of a schema.

        Args:
            text: The text.
            location: Location of the index, for error messages.

        Raises:
            AboutError: If the format is neither the current one nor convertible, or the table is not from this
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
    """The index has an unsupported format, or was written by another program."""


def check_windows(path: str, about: About, windows: WindowSettings | WindowChoice | None) -> None:
    """Check that window settings equal the settings of an index.

    Raises:
        ValueError: If they differ.
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
        path: Location of the index.
        present: Model and settings of the index.
        about: Model and settings of a new index with the model.

    Raises:
        ValueError: If the embeddings are not comparable with the embeddings of the index.
    """
    check_windows(path, present, about.windows)
    # The same weights may have moved to another folder.
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
    """Check that several indexes were made with the same model, so that their scores are comparable.

    Args:
        indexes: Model and settings of each index, by location.

    Raises:
        ValueError: If the models or their processors differ.
    """
    (first, about), *others = indexes.items()
    for path, other in others:
        if other.fingerprint != about.fingerprint:
            raise ValueError(
                f"{first} was made with {about.model}, and {path} with {other.model}, which is another model or has "
                "another processor: their scores don't compare, so search them one by one"
            )
