"""Every table, declared once: name, layer, schema, key, partition column, owner and meaning.

Schemas are Spark DDL strings, so that this module needs no Spark. Amounts are DECIMAL(18,2) in the currency that
stands beside them, rates and probabilities fractions, dates calendar days. Silver and gold carry no floating point
in their keys. Bronze tables follow the files of a source and are declared in ``conf/sources/<source>.yaml``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from conf.company_features import COMPANY_FEATURES
from conf.features import BLOCKS, FEATURES, Block, block_features

Layer = Literal["bronze", "silver", "quarantine", "gold", "truth"]


@dataclass(frozen=True)
class Table:
    """One Delta table.

    key is the columns that are unique together; so are, where there are any, those of also_unique. partition_by is None for
    an unpartitioned table; a gold job replaces one value of it. owner is the job that writes the table.
    """

    name: str
    layer: Layer
    ddl: str
    key: tuple[str, ...]
    owner: str
    meaning: str
    partition_by: str | None = None
    also_unique: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names in their declared order."""
        return tuple(line.split()[0] for line in _split_ddl(self.ddl))

    @property
    def types(self) -> dict[str, str]:
        """The type of each column, as its DDL says."""
        return {line.split()[0]: line.split()[1] for line in _split_ddl(self.ddl)}

    @property
    def required(self) -> tuple[str, ...]:
        """The columns that may not be null, in their declared order."""
        return tuple(line.split()[0] for line in _split_ddl(self.ddl) if line.endswith("NOT NULL"))


def _split_ddl(ddl: str) -> list[str]:
    """The column definitions of a DDL string; commas inside brackets do not separate."""
    columns, depth, start = [], 0, 0
    for position, character in enumerate(ddl):
        depth += (character in "(<") - (character in ")>")
        if character == "," and depth == 0:
            columns.append(ddl[start:position].strip())
            start = position + 1
    return [column for column in [*columns, ddl[start:].strip()] if column]


LANDED_FILE = Table(
    "landed_file",
    "bronze",
    """event STRING NOT NULL, kind STRING NOT NULL, path STRING NOT NULL, sha256 STRING NOT NULL,
    batch_id STRING NOT NULL, at TIMESTAMP NOT NULL, silver_versions MAP<STRING, BIGINT>""",
    ("event", "kind", "path", "batch_id", "at"),
    "ingest",
    """What became of each landed file. event: landing (about to be taken into bronze), mapping (its rows are about to go
    into silver; silver_versions: what each table was before), mapped (they are there or in quarantine, and the gates held).""",
)

MAX_ID = 200
"""The longest id, in characters: what PostgreSQL can index and a look-up can ask for."""

# Where a silver row came from; a person with a red task finds the raw row by these two.
_ORIGIN = "source_file STRING NOT NULL, row_number BIGINT NOT NULL"


def _silver(name: str, ddl: str, key: tuple[str, ...], meaning: str, also_unique: tuple[str, ...] = ()) -> Table:
    return Table(name, "silver", f"{ddl}, known_from DATE NOT NULL, {_ORIGIN}", key, "ingest", meaning, also_unique=also_unique)


BORROWER = _silver(
    "borrower",
    """borrower_id STRING NOT NULL, borrower_type STRING NOT NULL, identity_group_id STRING NOT NULL,
    birth_date DATE, gender STRING, region STRING, occupation STRING, industry STRING, employment_started_on DATE,
    education STRING, marital_status STRING, dependents INT, home_ownership STRING, main_income DECIMAL(18,2),
    other_income DECIMAL(18,2), income_verified BOOLEAN, currency STRING NOT NULL""",
    ("borrower_id", "known_from"),
    "Parties that owe or ask for money; incomes a year.",
)
CREDIT_REPORT = _silver(
    "credit_report",
    """borrower_id STRING NOT NULL, reported_on DATE NOT NULL, score_low INT, score_high INT, debt_to_income DOUBLE,
    delinquencies_24m INT, months_since_delinquency INT, months_since_public_record INT, public_records INT,
    bankruptcies INT, inquiries_6m INT, open_lines INT, total_lines INT, earliest_line_on DATE,
    revolving_balance DECIMAL(18,2), revolving_utilisation DOUBLE, past_due_amount DECIMAL(18,2),
    currency STRING NOT NULL""",
    ("borrower_id", "reported_on", "known_from"),
    "Summaries that a credit bureau reported, for sources that have no single lines.",
)
CREDIT_LINE = _silver(
    "credit_line",
    """borrower_id STRING NOT NULL, line_id STRING NOT NULL, kind STRING NOT NULL, opened_on DATE, closed_on DATE,
    credit_limit DECIMAL(18,2), balance DECIMAL(18,2), past_due_amount DECIMAL(18,2), worst_days_past_due_24m INT,
    status STRING NOT NULL, currency STRING NOT NULL""",
    ("borrower_id", "line_id", "known_from"),
    "Credit lines elsewhere: card and overdraft lines revolve, the others are repaid by instalments.",
)
CREDIT_INQUIRY = _silver(
    "credit_inquiry",
    "borrower_id STRING NOT NULL, inquired_on DATE NOT NULL, purpose STRING NOT NULL",
    ("borrower_id", "inquired_on", "purpose"),
    "Requests for a borrower's credit record.",
)
ACCOUNT_MONTH = _silver(
    "account_month",
    """borrower_id STRING NOT NULL, month DATE NOT NULL, card_spend DECIMAL(18,2), cash_advances DECIMAL(18,2),
    deposits DECIMAL(18,2), withdrawals DECIMAL(18,2), balance_min DECIMAL(18,2), balance_mean DECIMAL(18,2),
    balance_end DECIMAL(18,2), overdraft_days INT, transactions INT, utilisation DOUBLE, salary_in DECIMAL(18,2),
    currency STRING NOT NULL""",
    ("borrower_id", "month", "known_from"),
    "A borrower's bank and card account in one calendar month; month is its first day.",
)
LOAN = _silver(
    "loan",
    """loan_id STRING NOT NULL, borrower_id STRING NOT NULL, amount DECIMAL(18,2) NOT NULL, term_months INT NOT NULL,
    interest_rate DOUBLE NOT NULL, purpose STRING, grade STRING, within_policy BOOLEAN NOT NULL,
    listed_on DATE NOT NULL, originated_on DATE, funded_amount DECIMAL(18,2) NOT NULL, status STRING NOT NULL,
    closed_on DATE, currency STRING NOT NULL""",
    ("loan_id", "known_from"),
    """Loan requests and loans. funded_amount: of a listing, by others than this product's orders; of a loan, what was lent.
    status: listed, withdrawn, current, paid, charged_off; a later row of the same
    loan tells a later status. purpose: business for a loan to a business of the borrower's, any other word else, null
    where unknown. closed_on: the day it was paid in full or charged off.""",
)
REPAYMENT = _silver(
    "repayment",
    """loan_id STRING NOT NULL, borrower_id STRING NOT NULL, installment_no INT NOT NULL, due_on DATE NOT NULL,
    due_amount DECIMAL(18,2) NOT NULL, paid_on DATE, paid_amount DECIMAL(18,2) NOT NULL, days_past_due INT NOT NULL,
    currency STRING NOT NULL""",
    ("loan_id", "installment_no", "known_from"),
    """One instalment as it stood on known_from; an unpaid one is told again as days_past_due passes 30, 60 and 90,
    and when it is paid. A payment ahead of schedule stands in the instalment of its month.""",
)
MARKET_INDICATOR = _silver(
    "market_indicator",
    "series_id STRING NOT NULL, observed_on DATE NOT NULL, value DOUBLE NOT NULL",
    ("series_id", "observed_on", "known_from"),
    "Macro series; observed_on is the first day of the period, known_from its publication. Revisions keep both.",
)
COMPANY = _silver(
    "company",
    """company_id STRING NOT NULL, name STRING, identity_group_id STRING NOT NULL, industry STRING, country STRING,
    status STRING NOT NULL, distressed_on DATE, currency STRING NOT NULL""",
    ("company_id", "known_from"),
    """Companies whose statements are read; a later row of the same company tells what became known later. status: active,
    distressed (bankruptcy, liquidation or whatever the source's mapping counts as such), gone (merged, taken private, no
    longer told of). distressed_on: the day of it, null for the others. industry and country: codes, in the source's own terms.""",
)
FILING = _silver(
    "filing",
    """filing_id STRING NOT NULL, company_id STRING NOT NULL, period_end DATE NOT NULL, period_months INT NOT NULL,
    fiscal_year INT NOT NULL, filed_on DATE NOT NULL, form STRING NOT NULL, restates STRING, is_consolidated BOOLEAN NOT NULL,
    currency STRING NOT NULL""",
    ("filing_id",),
    """Statements of one company for one period, as one document told them. A restatement is a filing of its own with a later
    known_from, so that the first and every later version stay. period_months: 12 for a year, 3, 6 or 9 for an interim report.
    fiscal_year: the company's own name for the year. form: annual_report, interim_report or amendment. restates: the filing_id
    whose period is told anew, null for a period's first filing or where it is not told.""",
    also_unique=("company_id", "period_end", "period_months", "is_consolidated", "known_from"),
)
STATEMENT_ITEM = _silver(
    "statement_item",
    "filing_id STRING NOT NULL, account STRING NOT NULL, value DECIMAL(18,2) NOT NULL, code STRING NOT NULL",
    ("filing_id", "account"),
    """One account of one filing, in the filing's currency, whole units. account: a name of conf/chart_of_accounts.yaml; code:
    what the source calls it. Flows (revenue, profit) are those of the filing's period, stocks those of its end.""",
)
INVESTOR_ORDER = _silver(
    "investor_order",
    """order_id STRING NOT NULL, investor_id STRING NOT NULL, amount DECIMAL(18,2) NOT NULL, currency STRING NOT NULL,
    target_return DOUBLE NOT NULL, placed_at TIMESTAMP NOT NULL, status STRING NOT NULL""",
    ("order_id", "known_from"),
    "Investors' standing instructions; status: open, filled, cancelled; target_return net a year.",
)

QUARANTINE = Table(
    "quarantine",
    "quarantine",
    """table_name STRING NOT NULL, row_key STRING NOT NULL, raw STRING NOT NULL, broken_rules ARRAY<STRING> NOT NULL,
    known_from DATE, source_file STRING NOT NULL, row_number BIGINT NOT NULL, batch_id STRING NOT NULL""",
    ("table_name", "source_file", "row_number", "batch_id"),
    "ingest",
    "Rows that broke a rule, as JSON, with all the rules they broke. batch_id: the batch that landed the row.",
    "table_name",
)


def _gold(name: str, ddl: str, key: tuple[str, ...], owner: str, meaning: str, partition_by="as_of_date") -> Table:
    return Table(name, "gold", ddl, key, owner, meaning, partition_by)


POPULATION = _gold(
    "population",
    """borrower_id STRING NOT NULL, as_of_date DATE NOT NULL, identity_group_id STRING NOT NULL,
    borrower_type STRING NOT NULL, standing STRING NOT NULL, loan_id STRING NOT NULL, months_on_book INT NOT NULL""",
    ("borrower_id", "as_of_date"),
    "build_features",
    """Who is to be scored. standing: performing (a live loan, under 90 days past due) or applicant (an open
    listing). loan_id: the newest listing or live loan; months_on_book: whole months since it was originated, 0 for
    a listing.""",
)
UNSCORED = _gold(
    "unscored",
    "borrower_id STRING NOT NULL, as_of_date DATE NOT NULL, reason STRING NOT NULL, batch_id STRING NOT NULL",
    ("borrower_id", "as_of_date"),
    "build_features",
    "Borrowers with a live loan or a listing who get no score: reason is defaulted or too_thin.",
)


def _feature_table(block: Block) -> Table:
    columns = ", ".join(f"{feature.name} DOUBLE" for feature in block_features(block))
    return _gold(
        f"feature_{block}",
        f"borrower_id STRING NOT NULL, as_of_date DATE NOT NULL, {columns}",
        ("borrower_id", "as_of_date"),
        "build_features",
        f"The {len(block_features(block))} features of the {block} block.",
    )


FEATURE_TABLES: dict[Block, Table] = {block: _feature_table(block) for block in BLOCKS}

TRAINING_SET = _gold(
    "training_set",
    """borrower_id STRING NOT NULL, as_of_date DATE NOT NULL, cohort_month DATE NOT NULL,
    identity_group_id STRING NOT NULL, standing STRING NOT NULL, loan_id STRING NOT NULL, months_on_book INT NOT NULL,
    is_default BOOLEAN NOT NULL, default_on DATE, is_indeterminate BOOLEAN NOT NULL, watched_share DOUBLE NOT NULL, term_share DOUBLE NOT NULL, """
    + ", ".join(f"{feature.name} DOUBLE" for feature in FEATURES),
    ("borrower_id", "as_of_date"),
    "train_credit",
    """Cohorts with the outcome as it was knowable on the training date. cohort_month: last day of the month. is_indeterminate: late
    within the outcome window, by the source's indeterminate_days, and no default.
    watched_share: how much of the row's default risk had been watched on the training date; 1 for a passed horizon. term_share:
    risk over its loan's term, as a share of the risk over the horizon; 1 where the outcome is asked for a horizon.""",
    "cohort_month",
)
BORROWER_SCORE = _gold(
    "borrower_score",
    """borrower_id STRING NOT NULL, as_of_date DATE NOT NULL, borrower_type STRING NOT NULL,
    prob_default DOUBLE NOT NULL, horizon_months INT NOT NULL, score_points INT NOT NULL, risk_group INT NOT NULL,
    reason_codes ARRAY<STRING>, timeseries_log_odds DOUBLE NOT NULL, behavior_log_odds DOUBLE NOT NULL,
    record_log_odds DOUBLE NOT NULL, raw_prob_default DOUBLE NOT NULL, model_version STRING NOT NULL,
    batch_id STRING NOT NULL""",
    ("borrower_id", "as_of_date"),
    "score",
    """Calibrated scores. risk_group: 1 the safest to 5. raw_prob_default: the network's output before calibration. Of a company
    that has a company score, probability, points, group and reasons are that score's; log-odds and raw_prob_default the credit model's.
    reason_codes: what moved this score most, strongest first (conf.reasons); null in scores from before there were reasons.""",
)
_COMPANY_FEATURE_COLUMNS = ", ".join(f"{feature.name} DOUBLE" for feature in COMPANY_FEATURES)
COMPANY_FEATURE = _gold(
    "company_feature",
    f"""company_id STRING NOT NULL, as_of_date DATE NOT NULL, filing_id STRING NOT NULL, period_end DATE NOT NULL,
    {_COMPANY_FEATURE_COLUMNS}""",
    ("company_id", "as_of_date"),
    "score_company",
    """The features of the companies that can be scored: active, with as many annual statements in a row as trends need, the
    newest not stale. filing_id and period_end: the newest statements they rest on.""",
)
COMPANY_TRAINING_SET = _gold(
    "company_training_set",
    f"""company_id STRING NOT NULL, as_of_date DATE NOT NULL, filing_id STRING NOT NULL, period_end DATE NOT NULL,
    identity_group_id STRING NOT NULL, distressed_on DATE, watched_until DATE NOT NULL, {_COMPANY_FEATURE_COLUMNS}""",
    ("company_id", "as_of_date"),
    "train_company",
    """Companies on the days on which they told a year's statements, with the outcome as it was knowable on the training date.
    watched_until: the day up to which no distressed_on means that none came.""",
    None,
)
COMPANY_SCORE = _gold(
    "company_score",
    """company_id STRING NOT NULL, as_of_date DATE NOT NULL, prob_distress_1y DOUBLE NOT NULL, prob_distress_2y DOUBLE NOT NULL,
    prob_distress_3y DOUBLE NOT NULL, grade STRING NOT NULL, altman_z DOUBLE, reason_codes ARRAY<STRING> NOT NULL,
    raw_hazard DOUBLE NOT NULL, filing_id STRING NOT NULL, period_end DATE NOT NULL, model_version STRING NOT NULL,
    batch_id STRING NOT NULL""",
    ("company_id", "as_of_date"),
    "score_company",
    """Calibrated probabilities of distress within one, two and three years, after the filing that they rest on. grade: A the safest, by the
    one-year probability (settings company.grades). reason_codes: what moved the first year most, strongest first
    (conf.company_features). raw_hazard: of the first year, before calibration.""",
)
COMPANY_UNSCORED = _gold(
    "company_unscored",
    "company_id STRING NOT NULL, as_of_date DATE NOT NULL, reason STRING NOT NULL, batch_id STRING NOT NULL",
    ("company_id", "as_of_date"),
    "score_company",
    """Active companies that get no score. reason: no_statements (of a year, none known), stale_statements (the newest are too old) or
    too_few_statements (not enough years in a row).""",
)
DRIFT = _gold(
    "drift",
    """column_name STRING NOT NULL, as_of_date DATE NOT NULL, psi DOUBLE NOT NULL, null_share DOUBLE NOT NULL,
    training_null_share DOUBLE NOT NULL, row_count BIGINT NOT NULL, level STRING NOT NULL,
    model_version STRING NOT NULL, batch_id STRING NOT NULL""",
    ("column_name", "as_of_date"),
    "score",
    """How far each feature, and prob_default, lies from the training rows of the model that scored the night, among scored borrowers of
    their kind (applicants, within policy, where training takes only these). psi: population
    stability index over tenths of the training rows and nulls. level: stable, watch, shifted or too_few_rows.""",
)
COMPANY_DRIFT = _gold(
    "company_drift",
    DRIFT.ddl,
    ("column_name", "as_of_date"),
    "score_company",
    """How far each feature of a company's own, and prob_distress_1y, lies from the filings that calibrated the model that scored the
    night, in the columns of drift.""",
)
EXPECTED_PERFORMANCE = _gold(
    "expected_performance",
    """as_of_date DATE NOT NULL, row_count BIGINT NOT NULL, expected_auc DOUBLE NOT NULL, expected_brier DOUBLE NOT NULL,
    expected_default_rate DOUBLE NOT NULL, model_version STRING NOT NULL, batch_id STRING NOT NULL""",
    ("as_of_date",),
    "score",
    """What the night's calibrated probabilities, of the borrowers that drift is told of, let expect before outcomes are known, should the
    calibration hold.
    expected_default_rate: within the model's horizon.""",
)
LOAN_VALUATION = _gold(
    "loan_valuation",
    """loan_id STRING NOT NULL, as_of_date DATE NOT NULL, borrower_id STRING NOT NULL,
    identity_group_id STRING NOT NULL, risk_group INT NOT NULL, grade STRING, prob_default DOUBLE NOT NULL,
    prob_default_lifetime DOUBLE NOT NULL, loss_given_default DOUBLE NOT NULL, interest_rate DOUBLE NOT NULL,
    term_months INT NOT NULL, remaining_amount DECIMAL(18,2) NOT NULL, expected_loss DOUBLE NOT NULL,
    expected_net_return DOUBLE NOT NULL, duration_years DOUBLE NOT NULL, currency STRING NOT NULL,
    batch_id STRING NOT NULL""",
    ("loan_id", "as_of_date"),
    "allocate",
    """Open listings valued over their whole term. prob_default_lifetime: at the level of recent defaults, so that it may differ
    from a prob_default that looks as far. loss_given_default: after recoveries, not discounted. expected_loss: fraction of the amount lost over the term;
    expected_net_return: yearly internal rate of return of the expected cash flows after the platform's fee.""",
)
RISK_GROUP_CAP = _gold(
    "risk_group_cap",
    """risk_group INT NOT NULL, as_of_date DATE NOT NULL, cap DOUBLE NOT NULL, base_cap DOUBLE NOT NULL,
    market_stress DOUBLE, sensitivity DOUBLE, basis STRING NOT NULL, is_static BOOLEAN NOT NULL,
    batch_id STRING NOT NULL, asset_correlation DOUBLE, default_level DOUBLE""",
    ("risk_group", "as_of_date"),
    "allocate",
    """The largest share of an order that a risk group may take that night. market_stress: standard deviations, null
    without indicators; sensitivity: log change of the default rate per unit of stress. basis: fitted (on realised
    defaults), stated (by the settings: too little history) or static (no indicators). asset_correlation: of two borrowers of the
    group in that night's scenarios; default_level: how many times the hazard of default that listings are valued at these scenarios
    see, as stress has moved since the defaults of the last year; both null in nights from before they were told.""",
)
HOLDING = _gold(
    "holding",
    """order_id STRING NOT NULL, loan_id STRING NOT NULL, as_of_date DATE NOT NULL, investor_id STRING NOT NULL,
    borrower_id STRING NOT NULL, identity_group_id STRING NOT NULL, risk_group INT NOT NULL, amount DECIMAL(18,2) NOT NULL,
    principal_outstanding DECIMAL(18,2) NOT NULL, principal_back DECIMAL(18,2) NOT NULL,
    principal_lost DECIMAL(18,2) NOT NULL, status STRING NOT NULL, expected_net_return DOUBLE NOT NULL,
    currency STRING NOT NULL, batch_id STRING NOT NULL""",
    ("order_id", "loan_id", "as_of_date"),
    "allocate",
    """What orders, open or not, own before that night of the loans that earlier nights gave them (amount), as silver knows
    it then. The nights that count are the one that readers read when the night was opened and those that it built on.
    status: committed (the listing is open), performing, repaid, defaulted or returned (never lent). principal_back: repaid
    or given back, recoveries of a default among it; principal_lost: the rest of a default. expected_net_return: as bought.""",
)
ALLOCATION = _gold(
    "allocation",
    """order_id STRING NOT NULL, loan_id STRING NOT NULL, as_of_date DATE NOT NULL, borrower_id STRING NOT NULL,
    identity_group_id STRING NOT NULL, risk_group INT NOT NULL, amount DECIMAL(18,2) NOT NULL,
    weight DOUBLE NOT NULL, expected_net_return DOUBLE NOT NULL, currency STRING NOT NULL, batch_id STRING NOT NULL""",
    ("order_id", "loan_id", "as_of_date"),
    "allocate",
    "Amounts per order and listing, in whole notes. weight: amount over the order's amount.",
)
ALLOCATION_SUMMARY = _gold(
    "allocation_summary",
    """order_id STRING NOT NULL, as_of_date DATE NOT NULL, investor_id STRING NOT NULL, amount DECIMAL(18,2) NOT NULL,
    allocated_amount DECIMAL(18,2) NOT NULL, unallocated_amount DECIMAL(18,2) NOT NULL, target_return DOUBLE NOT NULL,
    expected_net_return DOUBLE, expected_loss DOUBLE, loan_count INT NOT NULL, status STRING NOT NULL,
    binding_constraint STRING, message STRING NOT NULL, currency STRING NOT NULL, batch_id STRING NOT NULL,
    cvar95 DOUBLE, rounding_gap DOUBLE, held_amount DECIMAL(18,2), held_loan_count INT, lost_amount DECIMAL(18,2),
    owned_net_return DOUBLE""",
    ("order_id", "as_of_date"),
    "allocate",
    """One row per open order. status, of all that the order owns: on_target, below_target (the nearest feasible portfolio),
    unfilled (it owns nothing). held_amount and held_loan_count: what it owned before (table holding), lost_amount: what
    defaults have cost it, made up for by new money as repaid principal is; allocated_amount and loan_count: bought tonight,
    as are the figures of returns, losses and the tail but owned_net_return, which is of old and new together.
    binding_constraint names what stands in the way; message says it in words. cvar95: mean loss in the worst
    twentieth of fresh scenarios, as expected_loss a fraction of what is allocated. rounding_gap: at most so much more of it
    do whole notes lose in the tail than the fractional optimum of all orders with this target would (as the programs count
    it, over their own scenarios); negative where they lose less, as they return less than the rounded target or got more
    of a scarce loan. All are null where nothing is bought, the gap also where there was no room for the
    target's orders; owned_net_return is null when unfilled.""",
)
FRONTIER = _gold(
    "frontier",
    """currency STRING NOT NULL, point INT NOT NULL, as_of_date DATE NOT NULL, amount DECIMAL(18,2) NOT NULL,
    target_return DOUBLE NOT NULL, note_amount DECIMAL(18,2) NOT NULL, identity_group_cap DOUBLE NOT NULL,
    allocated_amount DECIMAL(18,2) NOT NULL, expected_net_return DOUBLE NOT NULL, expected_loss DOUBLE NOT NULL,
    cvar95 DOUBLE NOT NULL, loan_count INT NOT NULL, status STRING NOT NULL, binding_constraint STRING,
    message STRING NOT NULL, batch_id STRING NOT NULL""",
    ("currency", "point", "as_of_date"),
    "allocate",
    """What return can be had at what tail loss: standard orders over what that night's orders leave, each as if it came
    alone. point: 1, 2, … by amount and target_return; the last of an amount is the most that it can return, and its
    binding_constraint and message say what stands in the way of more. At most allocation.frontier_amounts by
    frontier_targets points a currency, of at most frontier_most_notes. identity_group_cap: share of an order.""",
)
FRONTIER_HOLDING = _gold(
    "frontier_holding",
    """currency STRING NOT NULL, point INT NOT NULL, loan_id STRING NOT NULL, as_of_date DATE NOT NULL,
    borrower_id STRING NOT NULL, identity_group_id STRING NOT NULL, risk_group INT NOT NULL,
    amount DECIMAL(18,2) NOT NULL, expected_net_return DOUBLE NOT NULL, expected_loss DOUBLE NOT NULL,
    batch_id STRING NOT NULL""",
    ("currency", "point", "loan_id", "as_of_date"),
    "allocate",
    "The portfolio of each point of the frontier, in whole notes: no more rows a point than notes or listings that are left.",
)
GATE_RESULT = _gold(
    "gate_result",
    """gate STRING NOT NULL, table_name STRING NOT NULL, as_of_date DATE NOT NULL, success BOOLEAN NOT NULL,
    row_count BIGINT NOT NULL, expectation_count INT NOT NULL, failed_expectations ARRAY<STRING> NOT NULL,
    message STRING NOT NULL, data_docs STRING, batch_id STRING NOT NULL, checked_at TIMESTAMP NOT NULL""",
    ("gate", "table_name", "as_of_date"),
    "every gated job",
    "What each gate found; a job and its gate task refuse to go on when success is false.",
)
TRUTH_DEFAULT = Table(
    "truth_default",
    "truth",
    """borrower_id STRING NOT NULL, as_of_date DATE NOT NULL, prob_default_12m DOUBLE NOT NULL""",
    ("borrower_id", "as_of_date"),
    "simulate",
    "True default probabilities of the simulated market. Only evaluation reads this table.",
    "as_of_date",
)

SILVER: tuple[Table, ...] = (
    BORROWER, CREDIT_REPORT, CREDIT_LINE, CREDIT_INQUIRY, ACCOUNT_MONTH, LOAN, REPAYMENT, COMPANY, FILING, STATEMENT_ITEM,
    MARKET_INDICATOR, INVESTOR_ORDER,
)
# What a market of companies has, and no other.
OF_COMPANIES: tuple[Table, ...] = (COMPANY, FILING, STATEMENT_ITEM, COMPANY_FEATURE, COMPANY_TRAINING_SET, COMPANY_SCORE, COMPANY_UNSCORED, COMPANY_DRIFT)
# What the ingest of a product passes through its gates beside the silver tables that a source fills.
INGEST_RECORDS: dict[str, tuple[Table, ...]] = {
    "lending": (INVESTOR_ORDER, LANDED_FILE, QUARANTINE), "company": (LANDED_FILE, QUARANTINE),
}
GOLD: tuple[Table, ...] = (
    POPULATION, UNSCORED, *FEATURE_TABLES.values(), TRAINING_SET, BORROWER_SCORE, DRIFT, EXPECTED_PERFORMANCE, LOAN_VALUATION,
    RISK_GROUP_CAP, HOLDING, ALLOCATION, ALLOCATION_SUMMARY, FRONTIER, FRONTIER_HOLDING, COMPANY_FEATURE, COMPANY_TRAINING_SET,
    COMPANY_SCORE, COMPANY_UNSCORED, COMPANY_DRIFT, GATE_RESULT,
)
TABLES: dict[str, Table] = {table.name: table for table in (LANDED_FILE, *SILVER, QUARANTINE, *GOLD, TRUTH_DEFAULT)}

# What a publication holds; the PostgreSQL table of each has the Delta table's columns (migrations say which).
PUBLISHED: tuple[Table, ...] = (
    BORROWER_SCORE, UNSCORED, LOAN_VALUATION, RISK_GROUP_CAP, ALLOCATION, ALLOCATION_SUMMARY, FRONTIER, FRONTIER_HOLDING,
)
# What a market of each product publishes.
PUBLISHED_BY_PRODUCT: dict[str, tuple[Table, ...]] = {"lending": PUBLISHED, "company": (COMPANY_SCORE, COMPANY_UNSCORED)}
