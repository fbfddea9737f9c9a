"""The page of all features is the one that the declarations give."""

from __future__ import annotations

from conf.features import FEATURES
from features.document import PAGE, document


def test_page_is_up_to_date():
    assert PAGE.read_text() == document(), "run `python -m features.document`"


def test_page_lists_every_feature_once():
    rows = [line.split("|")[1].strip() for line in document().splitlines() if line.startswith("| `")]
    assert rows == [f"`{feature.name}`" for feature in FEATURES]
    assert len(rows) == 80
