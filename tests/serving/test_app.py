"""The API over a real server: right answers, plain refusals, and no answer of a batch that is gone."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
from fakeredis import TcpFakeServer
from fastapi.testclient import TestClient
from pydantic import SecretStr

from conf.settings import ROOT
from serving import reader as reader_module
from serving.app import create_app
from serving.reader import Reader
from spark_jobs.database_server import start_server, stop_server
from spark_jobs.publication import publish_batch, rollback
from tests.published_night import (
    DAY,
    contents,
    copier,
    make_batch,
    make_company_batch,
    make_rows,
    publish,
    publish_companies,
)

TOMORROW = DAY + timedelta(days=1)


@pytest.fixture
def published(empty_market):
    """A market whose first night is published."""
    publish(empty_market, make_batch(DAY))
    return empty_market


@pytest.fixture
def client(published):
    with TestClient(create_app(published)) as client:
        until(lambda: client.app.state.current.batch_id == make_batch(DAY).batch_id)
        yield client


@pytest.fixture
def redis_url():
    """A server that speaks Redis, on loopback."""
    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield SecretStr(f"redis://127.0.0.1:{server.server_address[1]}/0")
    server.shutdown()
    server.server_close()


def until(condition, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def test_a_score_is_told_with_its_batch_and_contract(client):
    answer = client.get("/v1/borrowers/b2/score")
    assert answer.status_code == 200
    assert answer.json() == {
        "borrower_id": "b2", "borrower_type": "person", "as_of_date": "2020-01-01", "prob_default": 0.2,
        "horizon_months": 12, "score_points": 600, "risk_group": 1,
        "reason_codes": [
            {
                "code": "overdrafts_raised_risk", "en": "How often your account was overdrawn raised your risk of default.",
                "ko": "마이너스 잔액이 발생한 빈도가 부도 위험을 높였습니다.",
            },
            {
                "code": "bureau_score_lowered_risk", "en": "Your credit bureau score lowered your risk of default.",
                "ko": "신용평가사 점수가 부도 위험을 낮췄습니다.",
            },
        ],
        "model_version": make_batch(DAY).batch_id, "batch_id": make_batch(DAY).batch_id, "data_contract_version": "1.0",
    }


def test_a_score_from_before_there_were_reasons_has_none(empty_market):
    batch = make_batch(DAY)
    rows = make_rows(batch)
    rows["borrower_score"][2]["reason_codes"] = None
    publish_batch(empty_market, batch, contents(rows), copier(empty_market, rows))
    with TestClient(create_app(empty_market)) as client:
        assert client.get("/v1/borrowers/b2/score").json()["reason_codes"] is None


def test_a_company_is_told_with_its_horizons_and_reasons(empty_market):
    market = empty_market.model_copy(update={"product": "company"})
    publish_companies(market, make_company_batch(DAY))
    with TestClient(create_app(market)) as client:
        answer = client.get("/v1/companies/c1/score")
        assert answer.status_code == 200
        assert answer.json() == {
            "company_id": "c1", "as_of_date": "2020-01-01", "prob_distress_1y": 0.02, "prob_distress_2y": 0.04, "prob_distress_3y": 0.06,
            "grade": "D", "altman_z": 1.5,
            "reason_codes": [{
                "code": "company_leverage_raised_risk", "en": "How much of the company is financed by debt raised the risk of distress.",
                "ko": "부채 의존도가 부실 위험을 높였습니다.",
            }],
            "filing_id": "c1-2019", "period_end": "2019-06-30", "model_version": "1", "batch_id": make_company_batch(DAY).batch_id,
            "data_contract_version": "1.0",
        }
        assert client.get("/v1/companies/c0/score").json()["altman_z"] is None
        unscored = client.get("/v1/companies/c2/score")
        assert unscored.status_code == 404 and unscored.json()["detail"] == "company c2 has no score: too_few_statements"
        missing = client.get("/v1/companies/c9/score")
        assert missing.status_code == 404 and missing.json()["detail"].startswith("company c9 is not in the published batch 2020-01-01-")
        assert client.get("/ready").json()["batch_id"] == make_company_batch(DAY).batch_id


def test_a_portfolio_is_told_with_its_holdings_to_the_cent(client):
    answer = client.get("/v1/orders/o1/portfolio").json()
    assert (answer["allocated_amount"], answer["unallocated_amount"]) == ("25.00", "475.00")
    assert (answer["status"], answer["binding_constraint"]) == ("below_target", "listings")
    assert answer["holdings"] == [
        {
            "loan_id": "l1", "borrower_id": "b0", "identity_group_id": "g0", "risk_group": 1, "amount": "25.00",
            "weight": 0.05, "expected_net_return": 0.07,
        }
    ]


def test_a_valuation_is_told(client):
    answer = client.get("/v1/loans/l1/valuation").json()
    assert (answer["remaining_amount"], answer["grade"], answer["prob_default_lifetime"]) == ("1000.00", "A", 0.05)


def test_a_quote_is_looked_up_and_kept(client, monkeypatch):
    asked = []
    ask = Reader.standard_order
    monkeypatch.setattr(
        reader_module.Reader, "standard_order", lambda self, *what: asked.append(what[0]) or ask(self, *what)
    )
    answer = client.get("/v1/quotes?amount=500&target_return=0.06")
    assert answer.status_code == 200
    assert answer.json() == {
        "as_of_date": "2020-01-01", "currency": "USD", "amount": "500.00", "target_return": 0.06, "allocated_amount": "25.00",
        "unallocated_amount": "475.00", "expected_net_return": 0.07, "expected_loss": 0.03, "cvar95": 0.3, "loan_count": 1,
        "status": "on_target", "standard_amount": "1000.00", "standard_target_return": 0.07, "batch_id": make_batch(DAY).batch_id,
        "message": "1 loan, expected to return 7.00% a year net; the target is 6.00%. 475 USD is left: the caps and what is open "
        "tonight leave no room for it.",
        "holdings": [
            {
                "loan_id": "l1", "borrower_id": "b0", "identity_group_id": "g0", "risk_group": 1, "amount": "25.00",
                "weight": 0.05, "expected_net_return": 0.07,
            }
        ],
    }
    assert client.get("/v1/quotes?amount=500.00&target_return=.06&currency=USD").content == answer.content
    assert asked == ["USD"]


def test_the_publication_is_told_with_its_origin(client):
    answer = client.get("/v1/publication").json()
    assert (answer["batch_id"], answer["as_of_date"]) == (make_batch(DAY).batch_id, "2020-01-01")
    assert answer["manifest"] == dict(make_batch(DAY).manifest)
    assert answer["content"]["borrower_score"]["rows"] == 3


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/borrowers/nobody/score", "borrower nobody is not in the published batch 2020-01-01-"),
        ("/v1/borrowers/thin/score", "borrower thin has no score: too_thin"),
        ("/v1/orders/o9/portfolio", "order o9 is not in the published batch"),
        ("/v1/borrowers/2024%2F001/score", "borrower 2024/001 is not in the published batch"),
        ("/v1/loans/' OR '1'='1/valuation", "loan ' OR '1'='1 is not in the published batch"),
        ("/v1/quotes?amount=100&target_return=0.06", "(as of 2020-01-01): with notes of 25 USD and at most 10% per borrower an"),
        ("/v1/quotes?amount=2000&target_return=0.06", "left is one of 1000 USD: this one has 2000 USD"),
        ("/v1/quotes?amount=500&target_return=0.2", "20.00% a year is out of reach for an order of up to 1000 USD: With at most"),
        ("/v1/quotes?amount=500&target_return=0.06&currency=KRW", "no quote in KRW from the published batch 2020-01-01-"),
    ],
)
def test_what_is_not_there_is_404_in_words(client, path, words):
    for _ in range(2):  # once from the database, once from the cache
        answer = client.get(path)
        assert answer.status_code == 404
        assert words in answer.json()["detail"]


@pytest.mark.parametrize("identifier", ["x" * 201, "a%00b", "a%09b", "a%0Ab"])
def test_what_is_no_identifier_is_422_in_words(client, identifier):
    answer = client.get(f"/v1/borrowers/{identifier}/score")
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("borrower_id: String should")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("amount=0&target_return=0.06", "amount: Input should be greater than 0"),
        ("amount=ten&target_return=0.06", "amount: Input should be a valid decimal"),
        ("amount=10.001&target_return=0.06", "amount: Decimal input should have no more than 2 decimal places"),
        ("amount=100", "target_return: Field required"),
        ("amount=100&target_return=nan", "target_return: "),
        ("amount=100&target_return=0.06&currency=usd", "currency: String should match pattern"),
    ],
)
def test_what_is_no_order_is_422_in_words(client, asked, words):
    answer = client.get(f"/v1/quotes?{asked}")
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(words)


def test_answers_are_kept_until_the_publication_moves(client, published, monkeypatch):
    asked = []
    ask = Reader.score
    monkeypatch.setattr(reader_module.Reader, "score", lambda self, who: asked.append(who) or ask(self, who))
    first = client.get("/v1/borrowers/b1/score")
    assert client.get("/v1/borrowers/b1/score").content == first.content
    assert asked == ["b1"]

    publish(published, make_batch(TOMORROW))
    until(lambda: client.app.state.current.batch_id == make_batch(TOMORROW).batch_id, seconds=3)
    assert client.get("/v1/borrowers/b1/score").json()["as_of_date"] == "2020-01-02"
    assert asked == ["b1", "b1"]

    rollback(published, make_batch(DAY).batch_id)
    until(lambda: client.app.state.current.batch_id == make_batch(DAY).batch_id, seconds=3)
    assert client.get("/v1/borrowers/b1/score").content == first.content
    assert asked == ["b1", "b1"]


def test_processes_share_their_answers_by_redis_until_the_publication_moves(published, redis_url, monkeypatch):
    asked = []
    ask = Reader.score
    monkeypatch.setattr(reader_module.Reader, "score", lambda self, who: asked.append(who) or ask(self, who))
    shared = published.model_copy(update={"redis_url": redis_url})
    with TestClient(create_app(shared)) as one, TestClient(create_app(shared)) as other:
        for client in (one, other):
            until(lambda client=client: client.app.state.current.batch_id == make_batch(DAY).batch_id)
        first = one.get("/v1/borrowers/b1/score")
        assert other.get("/v1/borrowers/b1/score").content == first.content
        assert one.get("/v1/borrowers/thin/score").status_code == other.get("/v1/borrowers/thin/score").status_code == 404
        assert asked == ["b1", "thin"]

        publish(published, make_batch(TOMORROW))
        until(lambda: other.app.state.current.batch_id == make_batch(TOMORROW).batch_id, seconds=3)
        assert other.get("/v1/borrowers/b1/score").json()["as_of_date"] == "2020-01-02"
        assert asked == ["b1", "thin", "b1"]


def test_nothing_published_is_503(empty_market):
    with TestClient(create_app(empty_market)) as client:
        assert client.get("/health").json() == {"status": "ok"}
        for path in ("/ready", "/v1/publication", "/v1/borrowers/b1/score", "/v1/orders/o1/portfolio", "/v1/quotes?amount=500&target_return=0.06"):
            answer = client.get(path)
            assert answer.status_code == 503
            assert "nothing has been published yet" in answer.json()["detail"]


def test_a_restarted_server_is_met_again(client, published, database):
    assert client.get("/ready").json() == {"status": "ready", "batch_id": make_batch(DAY).batch_id}
    stop_server(database)
    try:
        until(lambda: client.app.state.current.batch_id is None)
        answer = client.get("/v1/borrowers/b1/score")
        assert (answer.status_code, answer.json()) == (503, {"detail": "the publication database does not answer"})
        assert client.get("/ready").status_code == 503
        assert client.get("/health").status_code == 200
    finally:
        start_server(database)
    assert client.get("/v1/borrowers/b1/score").status_code == 200
    until(lambda: client.app.state.current.batch_id == make_batch(DAY).batch_id)


def test_an_api_key_is_asked_for_where_one_is_set(published):
    guarded = published.model_copy(update={"api_key": SecretStr("let me in")})
    with TestClient(create_app(guarded)) as client:
        for headers in ({}, {"X-API-Key": "wrong"}, {"X-API-Key": ""}):
            answer = client.get("/v1/borrowers/b1/score", headers=headers)
            assert (answer.status_code, answer.json()) == (401, {"detail": "send the API key in the header X-API-Key"})
        assert client.get("/v1/borrowers/b1/score", headers={"X-API-Key": "let me in"}).status_code == 200
        assert client.get("/ready").status_code == 200


def test_redis_being_away_costs_no_answer(published, free_port):
    nobody_there = SecretStr(f"redis://127.0.0.1:{free_port()}/0")
    with TestClient(create_app(published.model_copy(update={"redis_url": nobody_there}))) as client:
        until(lambda: client.app.state.current.batch_id)
        assert client.get("/v1/borrowers/b1/score").status_code == 200


def test_every_look_up_has_an_example_in_its_documentation(client):
    described = client.get("/openapi.json").json()
    for name in ("Score", "Portfolio", "Quote", "Valuation", "Publication", "Problem"):
        schema = described["components"]["schemas"][name]
        assert set(schema["examples"][0]) == set(schema["properties"]), name
    assert {"401", "404", "422", "503"} <= set(described["paths"]["/v1/borrowers/{borrower_id}/score"]["get"]["responses"])


def test_its_documentation_needs_no_other_host(client):
    files = re.findall(r'(?:src|href)="([^"]+\.(?:js|css))"', client.get("/docs").text)
    assert {file.rpartition(".")[2] for file in files} == {"js", "css"}
    assert all(file.startswith("/") and client.get(file).status_code == 200 for file in files), files


def test_the_process_imports_conf_only():
    heavy = ("pyspark", "tensorflow", "delta", "mlflow", "pandas", "numpy", "spark_jobs", "models", "features", "expectations")
    code = (
        "import sys, serving.app, serving.__main__\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    asked = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == "[]"
