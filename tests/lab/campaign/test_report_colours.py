"""The colours of outcomes: told apart by everybody, on light pages and on dark ones.

How people with a colour vision deficiency see a colour: Machado, Oliveira and Fernandes, A
physiologically-based model for simulation of color vision deficiency, 2009, at severity 1.
"""

from __future__ import annotations

import re
from itertools import combinations
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest

from tests.docs.pages import ROOT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

APART: Final = 12.0
"""Of two outcomes, in CIE 1976 units; 2.3 is just noticeable side by side."""

SEEN: Final = {
    "all colours": np.eye(3),
    "no long-wave cones": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]
    ),
    "no medium-wave cones": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]
    ),
    "no short-wave cones": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
         [0.004733, 0.691367, 0.303900]]
    ),
}  # fmt: skip

XYZ: Final = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)
WHITE: Final = np.array([0.9505, 1.0, 1.089])

STYLE: Final = (ROOT / "lab/campaign/report/page/report.css").read_text(encoding="utf-8")
THEMES: Final = dict(
    zip(
        ("light", "dark"),
        (
            dict(re.findall(r"--([\w-]+): (#\w+);", block))
            for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
        ),
        strict=True,
    )
)
OUTCOMES: Final = re.findall(r"\.o-(?!untouched)[\w-]+ \{ --c: var\(--([\w-]+)\)", STYLE)


def linear(colour: str) -> Vector:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def perceived(light: Vector) -> Vector:
    """Return a colour in CIE L*a*b*."""
    x = XYZ @ np.clip(light, 0, 1) / WHITE
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as WCAG defines it."""
    dark, bright = sorted(float(XYZ[1] @ linear(colour)) for colour in (one, other))
    return (bright + 0.05) / (dark + 0.05)


def test_there_are_colours_to_look_at() -> None:
    assert len(OUTCOMES) == 10
    assert all(set(OUTCOMES) <= set(theme) for theme in THEMES.values())


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("eyes", SEEN)
def test_outcomes_are_told_apart(theme: str, eyes: str) -> None:
    seen = {name: perceived(SEEN[eyes] @ linear(THEMES[theme][name])) for name in OUTCOMES}
    for one, other in combinations(OUTCOMES, 2):
        distance = float(np.linalg.norm(seen[one] - seen[other]))
        assert distance > APART, f"{one} and {other} are {distance:.1f} apart"


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("text", ["ink", "soft", "accent", "good", "bad"])
@pytest.mark.parametrize("ground", ["page", "panel"])
def test_text_can_be_read(theme: str, text: str, ground: str) -> None:
    assert contrast(THEMES[theme][text], THEMES[theme][ground]) >= 4.5
