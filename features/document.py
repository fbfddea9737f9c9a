"""``python -m features.document``: writes ``features/FEATURES.md``, the list of all features as they are declared."""

from __future__ import annotations

from pathlib import Path

from conf.features import BLOCKS, FEATURES, Block, Feature, block_features, shared_context

PAGE = Path(__file__).parent / "FEATURES.md"
TITLES: dict[Block, str] = {
    "demographic": "Demographic",
    "credit_record": "Credit record",
    "behavior": "Behaviour",
    "timeseries": "Monthly time series",
}


def limits(feature: Feature) -> str:
    """The plausible range in words."""
    if feature.low is None and feature.high is None:
        return "any"
    if feature.high is None:
        return f"{feature.low:g} or more"
    return f"{feature.low:g} to {feature.high:g}"


def fill(feature: Feature) -> str:
    """What stands for a null in models that need a number."""
    return feature.fill if feature.fill == "median" else f"{feature.fill:g}"


def row(feature: Feature) -> str:
    """One feature as a row of a Markdown table."""
    cells = (
        f"`{feature.name}`", feature.meaning, feature.unit, limits(feature), fill(feature),
        {1: "+", 0: "", -1: "-"}[feature.raises_risk], "yes" if feature.shared else "", feature.source,
    )
    return f"| {' | '.join(cells)} |"


def document() -> str:
    """The page: one table per block, one row per feature."""
    lines = [
        "# Features",
        "",
        f"{len(FEATURES)} features in {len(BLOCKS)} blocks, {len(shared_context())} of them shared with every sub-model."
        " Written by `python -m features.document` from `conf/features.py`; the formulas stand under the same names in"
        " `features/<block>.py`.",
        "",
        "One value per borrower and as-of date, a double, null where nothing is known by then; a range holds for what"
        " is known and is checked by the gate. Fill: what models that need numbers put for a null, beside an indicator.",
        "Risk: + where the time series model (LightGBM) takes more of it for more risk everywhere, all else equal, - for less.",
    ]
    for block in BLOCKS:
        lines += [
            "",
            f"## {TITLES[block]}: {len(block_features(block))}",
            "",
            "| feature | meaning | unit | range | fill | risk | shared | from |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
            *(row(feature) for feature in block_features(block)),
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(document())
    print(f"wrote {PAGE}")
