"""``python -m spark_jobs.evaluation_report <folder> <source> …``: the findings of evaluated markets as one page and one JSON file.

Reads what the job evaluate left in each market's reports below MOSAIC_HOME; writes evaluation.html and
evaluation.json into the folder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from conf.settings import Settings, load_settings
from conf.source import load_source
from models.evaluation_page import page


def run(settings: Settings, names: Sequence[str], folder: Path) -> Path:
    """Write the page and the JSON of these markets below settings.home into a folder; the page's path."""
    data_sets = {}
    for name in names:
        reports = settings.home / name / "reports"
        found = json.loads((reports / "evaluation.json").read_text())
        data_sets[name] = (load_source(name).title, found, pd.read_parquet(reports / "predictions.parquet"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps({name: found for name, (_, found, _) in data_sets.items()}, indent=1))
    target = folder / "evaluation.html"
    target.write_text(page(data_sets, datetime.now(UTC)), encoding="utf-8")
    return target


if __name__ == "__main__":
    print(run(load_settings(), sys.argv[2:], Path(sys.argv[1])))
