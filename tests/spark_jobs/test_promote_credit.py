"""Promotion, approval and the way back, on a registry whose versions hold what a training writes down and no model."""

from __future__ import annotations

import json
from datetime import date

import pytest
from mlflow import MlflowClient

from conf.settings import load_settings
from models.credit_model import DESCRIPTION_FILE, FORMAT
from models.promotion import NOBODY, RuleResult, decide
from models.registry import CHALLENGER, CHAMPION, NoChampion, champion_version, find_version, set_alias, tag_version
from spark_jobs import check_challenger, check_champion, promote_credit, rollback_model
from spark_jobs.promote_credit import NoChallenger
from spark_jobs.rollback_model import NoWayBack
from spark_jobs.skipped import SKIPPED

DAY, LATER = date(2011, 3, 31), date(2011, 4, 30)


def registry(market) -> MlflowClient:
    """Of this market, whatever registry another test has left as MLflow's own."""
    return MlflowClient(market.tracking_uri, market.tracking_uri)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A market whose registry, which takes a while to make, is there."""
    found = load_settings(home=tmp_path_factory.mktemp("market"))
    (found.market / "mlflow").mkdir(parents=True)
    return found


@pytest.fixture
def market(store):
    """The market without any version."""
    registry(store).create_registered_model(store.model_name)
    yield store
    registry(store).delete_registered_model(store.model_name)


def train(market, day, passed=True, form=FORMAT) -> str:
    """A version as train_credit leaves it: challenger, its rules in tags; of the model, its format alone."""
    client = registry(market)
    run = client.create_run("0", tags={"trained_on": day.isoformat()})
    folder = market.market / run.info.run_id
    (folder / "artifacts" / "credit_model").mkdir(parents=True)
    (folder / "artifacts" / "credit_model" / DESCRIPTION_FILE).write_text(json.dumps({"format": form}))
    version = str(client.create_model_version(market.model_name, folder.as_uri(), run.info.run_id).version)
    decision = decide([RuleResult("minimum_auc", passed, f"AUC of {day}")])
    against = find_version(market, CHAMPION) or NOBODY
    tag_version(market, version, decision.tags() | {"trained_on": day.isoformat(), "judged_against": against})
    set_alias(market, CHALLENGER, version)
    return version


def last_line(capsys) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def test_from_the_first_champion_to_a_way_back(market, capsys):
    with pytest.raises(NoChallenger, match=r"no challenger of simulated-credit was trained on 2011-03-31: run credit_training"):
        promote_credit.run(market, DAY)
    with pytest.raises(NoWayBack, match="nothing to go back to, no version was ever champion"):
        rollback_model.run(market, "previous")

    train(market, DAY)
    promote_credit.run(market, DAY)
    assert last_line(capsys).startswith("model simulated-credit version 1 is the new champion: AUC of 2011-03-31; judged against")
    assert (champion_version(market), find_version(market, CHALLENGER)) == ("1", None)
    promote_credit.run(market, DAY)
    assert last_line(capsys) == "model simulated-credit version 1 is champion already"
    with pytest.raises(NoWayBack, match="nothing to go back to, version 1 is the only one that was ever champion"):
        rollback_model.run(market, "previous")

    # A rule of the training failed.
    train(market, LATER, passed=False)
    promote_credit.run(market, LATER)
    assert last_line(capsys) == "model simulated-credit version 2 stays a challenger (champion: 1): AUC of 2011-04-30"
    with pytest.raises(SystemExit) as skipped:
        check_challenger.run(market, LATER)
    assert skipped.value.code == SKIPPED
    assert last_line(capsys) == "model simulated-credit version 2 stays a challenger: AUC of 2011-04-30"

    # A person is asked.
    asking = market.model_copy(update={"training": market.training.model_copy(update={"approval": True})})
    train(market, LATER)
    promote_credit.run(asking, LATER)
    assert "version 3 stays a challenger (champion: 1): training.approval asks for a person" in last_line(capsys)
    check_challenger.run(asking, LATER)
    told = json.loads(last_line(capsys))
    assert told["version"] == "3" and "- passed: AUC of 2011-04-30" in told["rules"] and "approval" not in told["rules"]
    promote_credit.run(asking, LATER, told["version"], "Ada")
    assert last_line(capsys).endswith("approved by Ada")
    assert champion_version(market) == "3"

    # Judged against version 3, while the champion went back to 1.
    train(market, LATER)
    with pytest.raises(NoWayBack, match=r"no way back to 2 \(champion: 3\); there is:\nversion 1, trained on 2011-03-31, rules passed, "):
        rollback_model.run(market, "2")
    rollback_model.run(market, "1")
    assert last_line(capsys) == "model simulated-credit version 1 is champion now (before: version 3)"
    promote_credit.run(market, LATER)
    assert last_line(capsys).endswith("judged against champion 3, champion now: 1; train again")
    assert champion_version(market) == "1"
    rollback_model.run(market, "previous")
    assert champion_version(market) == "3"

    # What an earlier day's training knew is less.
    train(market, DAY)
    promote_credit.run(market, DAY)
    assert "trained on what was known on 2011-03-31, the champion on 2011-04-30" in last_line(capsys)
    assert champion_version(market) == "3"


def test_a_first_model_that_is_turned_away_says_at_once_why_and_what_to_do(market, capsys):
    train(market, DAY, passed=False)
    why = r"no champion model for market simulated: version 1, trained on 2011-03-31, was turned away: AUC of 2011-03-31\. Give it more to"
    for job in (promote_credit, check_challenger, check_champion):
        with pytest.raises(NoChampion, match=why):
            job.run(market, DAY)
    assert "- **failed**: AUC of 2011-03-31" in capsys.readouterr().out
    # The next one is good: it waits for its promotion, and the night for that.
    train(market, LATER)
    with pytest.raises(NoChampion, match="no champion model for market simulated: run the DAG credit_training"):
        check_champion.run(market, LATER)
    promote_credit.run(market, LATER)
    assert champion_version(market) == "2"


def test_a_version_that_no_night_could_load_is_no_way_back(market):
    for form in (FORMAT - 1, FORMAT):
        train(market, DAY, form=form)
        promote_credit.run(market, DAY)
    why = rf"no way back to version 1, which this code cannot load \(champion stays: 2\): .*credit model of format {FORMAT - 1}, this code"
    with pytest.raises(NoWayBack, match=why):
        rollback_model.run(market, "previous")
    assert champion_version(market) == "2"
