"""What is attainable in the simulated market: from whom it is learnt, and whom it scores."""

from __future__ import annotations

from datetime import date

import pytest

from conf.source import load_source
from conf.tables import TRUTH_DEFAULT
from models.sub_models import KEYS
from spark_jobs import attainable
from spark_jobs.lake import Lake

DAY = date(2025, 6, 30)


@pytest.fixture
def market(settings):
    simulation = settings.simulation.model_copy(update={"borrowers": 200, "history_months": 20})
    return settings.model_copy(update={"simulation": simulation})


def test_the_tested_are_scored_by_a_model_of_others(spark, market, tmp_path):
    lake, source = Lake(spark, market), load_source("simulated")
    drawn = source.evaluation.drawn.model_copy(update={"reference_times": 4})
    source = source.model_copy(update={"evaluation": source.evaluation.model_copy(update={"drawn": drawn})})
    # The market's own borrowers, by the same way: their records, features and truth.
    attainable.land_records(spark, market.simulation, range(200), DAY, tmp_path)
    truth = spark.read.parquet(str(tmp_path / TRUTH_DEFAULT.name))
    test = attainable.build_reference(attainable.read_records(lake, source, tmp_path), source, truth, DAY).persist()
    tested = test.select(*KEYS).toPandas()
    learnt: list = []
    with pytest.MonkeyPatch.context() as patch:
        whole = attainable.attainable_score
        patch.setattr(attainable, "attainable_score", lambda *asked: learnt.append(asked) or whole(*asked))
        rows, reference = attainable.with_attainable(lake, source, test, test, tested)

    (features, labels, *_) = learnt[0]
    assert 50 < len(tested) <= 200 and len(rows) == len(tested)
    assert reference["rows"] == reference["borrowers"] == len(features) > 2.5 * len(tested)
    assert reference["training_borrowers"] == reference["training_rows"] == len(tested)
    assert ((labels >= 0) & (labels <= 1)).all() and labels.std() > 0.01 and features["total_income_log"].notna().any()
    assert rows["attainable"].between(0, 1).all() and rows["interest_rate"].notna().all()
    # The tested rows' truth is that of their own market, with more paths than a label has.
    merged = rows.merge(truth.toPandas(), on=list(KEYS))
    assert len(merged) == len(rows) and merged["truth"].corr(merged["prob_default_12m"]) > 0.9
    assert not (market.market / "reference").exists()
