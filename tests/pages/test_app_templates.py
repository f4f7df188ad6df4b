"""The page describes an explanation as it applies to the model, for example a plain CLIP."""

import pytest

from ts2net.explanation import DrawnFrame
from ts2net.pages.rendering import render


@pytest.mark.parametrize(
    ("selected", "is_mean", "expected", "unexpected"),
    [
        (True, False, "The outlined patches are those that the temporal encoder read", "the same for all frames"),
        (
            False,
            True,
            "the same for all frames here. This model selects no patches",
            "outlined patches are",
        ),  # a plain CLIP
    ],
)
def test_says_which_patches_are_outlined_if_any(selected: bool, is_mean: bool, expected: str, unexpected: str) -> None:
    frames = [
        DrawnFrame(b"picture", "image/jpeg", f"0:0{second}", weight) for second, weight in ((1, 0.25), (2, 0.75))
    ]
    values = {"number": 1, "name": "a.mp4", "query_label": "“rain”", "score": 12.0, "frames": frames}
    page = " ".join(render("app/explanation.html", selected=selected, is_mean=is_mean, words=None, **values).split())
    assert expected in page
    assert unexpected not in page
    assert [page.count(f"<b>{percent} %</b>") for percent in (25, 75)] == [1, 1]
    assert page.count(">weight</span>") == 2
