"""Features of companies: formulas over the annual statements known on the as-of date.

A spine has one row per (company_id, as_of_date). Formulas read the structs ``now``, ``before`` and ``before2``: the accounts of
the newest fiscal year known, of the one before it and of the one before that; null where a year is not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from conf.accounts import chart_of_accounts
from conf.company_features import COMPANY_FEATURES, MIN_STATEMENTS
from features.company_industry import MEDIANS, build_industries, with_industry

SPINE = ("company_id", "as_of_date")
YEARS = ("now", "before", "before2")
# The newest statements may be as old as this: a year, the time to file, and some delay.
MAX_STATEMENT_AGE_MONTHS = 24
POLICY_RATES = {"USD": "FEDFUNDS", "KRW": "BOK_BASE_RATE"}
CREDIT_SPREAD = "BAAFFM"
UNEMPLOYMENT_RATES = {"USD": "UNRATE"}


def build_statements(filing: DataFrame, statement_item: DataFrame) -> DataFrame:
    """Annual filings with their accounts side by side: one row per filing, consolidated ones before others of a period.

    Columns: company_id, filing_id, period_end, known_from, is_consolidated, and each account of the chart, null where not told.
    """
    accounts = [F.max(F.when(F.col("account") == name, F.col("value").cast("double"))).alias(name) for name in chart_of_accounts().accounts]
    annual = filing.where("period_months = 12").select("company_id", "filing_id", "period_end", "known_from", "is_consolidated")
    items = statement_item.groupBy("filing_id").agg(F.max("known_from").alias("items_known_from"), *accounts)
    # Amounts that were sent again may be known later than the filing that they are of.
    known_from = F.greatest("known_from", "items_known_from")
    return annual.join(items, on="filing_id", how="inner").withColumn("known_from", known_from).drop("items_known_from")


def with_years(spine: DataFrame, statements: DataFrame) -> DataFrame:
    """The spine rows of companies with at least MIN_STATEMENTS consecutive annual statements known, with their years.

    Adds filing_id, period_end and told_on (the newest period's, and the day since which its version is known), and the structs of
    YEARS. Of each period the version known last counts, the consolidated one first. Left out: a spine row whose newest statements are older than MAX_STATEMENT_AGE_MONTHS.
    """
    version = Window.partitionBy(*SPINE, "period_end").orderBy(F.col("is_consolidated").desc(), F.col("known_from").desc(), "filing_id")
    newest = Window.partitionBy(*SPINE)
    # A fiscal year may be moved by some months.
    years_back = F.round(F.months_between(F.max("period_end").over(newest), F.col("period_end")) / 12).cast("int")
    known = (
        spine.select(*SPINE).join(statements, on="company_id", how="inner").where(F.col("known_from") <= F.col("as_of_date"))
        .withColumn("version", F.row_number().over(version)).where("version = 1").withColumn("years_back", years_back)
        .where(F.col("years_back") < MIN_STATEMENTS)
    )
    year = F.struct("filing_id", "period_end", "known_from", *chart_of_accounts().accounts)
    by_year = known.groupBy(*SPINE).agg(
        *(F.max_by(F.when(F.col("years_back") == back, year), F.when(F.col("years_back") == back, F.col("period_end"))).alias(name)
          for back, name in enumerate(YEARS)),
    )
    whole = " AND ".join(f"{name} IS NOT NULL" for name in YEARS)
    fresh = F.months_between("as_of_date", F.col("now.period_end")) <= MAX_STATEMENT_AGE_MONTHS
    return by_year.where(whole).where(fresh).select(
        *SPINE, F.col("now.filing_id").alias("filing_id"), F.col("now.period_end").alias("period_end"), F.col("now.known_from").alias("told_on"), *YEARS
    )


def ratio(numerator: Column, denominator: Column) -> Column:
    """A ratio; null where its denominator is zero or below, or either is unknown."""
    return F.when(denominator > 0, numerator / denominator)


def log(amount: Column) -> Column:
    """The natural logarithm; null where the amount is zero or below."""
    return F.when(amount > 0, F.log(amount))


class Year:
    """The accounts of one year, and the ratios of that year that several features need."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.assets = self["total_assets"]
        # Many balance sheets go without a line of all liabilities, some without one of all equity.
        rest = self.assets - F.coalesce(self["mezzanine_equity"], F.lit(0.0))
        self.liabilities = F.coalesce(self["total_liabilities"], rest - self["equity"])
        self.equity = F.coalesce(self["equity"], rest - self["total_liabilities"])
        self.working_capital = self["current_assets"] - self["current_liabilities"]
        both = self["depreciation"] + F.coalesce(self["amortization"], F.lit(0.0))
        self.depreciation_and_amortization = F.coalesce(self["depreciation_and_amortization"], both)
        self.ebitda = F.coalesce(self["ebitda"], self["ebit"] + self.depreciation_and_amortization)
        self.market_assets = self.liabilities + self["market_value"]
        self.revenue, self.net_income = self["revenue"], self["net_income"]

    def __getitem__(self, account: str) -> Column:
        return F.col(f"{self._name}.{account}")

    def ratios(self) -> dict[str, Column]:
        """The ratios of which changes and volatility are features too."""
        return {
            "liabilities_to_assets": ratio(self.liabilities, self.assets),
            "market_leverage": ratio(self.liabilities, self.market_assets),
            "net_income_to_assets": ratio(self.net_income, self.assets),
            "ebit_to_assets": ratio(self["ebit"], self.assets),
            "working_capital_to_assets": ratio(self.working_capital, self.assets),
            "asset_turnover": ratio(self.revenue, self.assets),
            "log_market_value": log(self["market_value"]),
        }


def build_year_ratios(statements: DataFrame) -> DataFrame:
    """Of each row of ``build_statements``, in place of its accounts, the ratios that are held against an industry's."""
    ratios = Year("now").ratios()
    keys = [name for name in statements.columns if name not in chart_of_accounts().accounts]
    of_year = statements.withColumn("now", F.struct(*chart_of_accounts().accounts))
    return of_year.select(*keys, *(ratios[name].alias(name) for name in MEDIANS))


def spread(values: Sequence[Column]) -> Column:
    """The standard deviation of a population; null where one value is."""
    mean = sum(values[1:], values[0]) / F.lit(float(len(values)))
    squares = [(value - mean) * (value - mean) for value in values]
    return F.sqrt(sum(squares[1:], squares[0]) / F.lit(float(len(values))))


def altman_z(year: Year) -> Column:
    """Altman's Z'' without the constant for emerging markets; higher is sounder (sources: conf.company_features)."""
    ratios = year.ratios()
    return (
        6.56 * ratios["working_capital_to_assets"] + 3.26 * ratio(year["retained_earnings"], year.assets)
        + 6.72 * ratios["ebit_to_assets"] + 1.05 * ratio(year.equity, year.liabilities)
    )


def ohlson_o(now: Year, before: Year) -> Column:
    """Ohlson's O; higher is riskier. The price level is held at 100, which moves all companies of a year alike."""
    ratios = now.ratios()
    return (
        -1.32 - 0.407 * log(now.assets / 100.0) + 6.03 * ratios["liabilities_to_assets"] - 1.43 * ratios["working_capital_to_assets"]
        + 0.0757 * ratio(now["current_liabilities"], now["current_assets"]) - 1.72 * negative_equity(now)
        - 2.37 * ratios["net_income_to_assets"] - 1.83 * ratio(now.ebitda, now.liabilities) + 0.285 * two_losses(now, before)
        - 0.521 * income_change(now, before)
    )


def negative_equity(year: Year) -> Column:
    """1 where liabilities exceed assets, else 0."""
    return (year.liabilities > year.assets).cast("double")


def two_losses(now: Year, before: Year) -> Column:
    """1 after a net loss in both years, else 0."""
    return ((now.net_income < 0) & (before.net_income < 0)).cast("double")


def income_change(now: Year, before: Year) -> Column:
    """The change of net income over the sum of both amounts without their signs."""
    return ratio(now.net_income - before.net_income, F.abs(now.net_income) + F.abs(before.net_income))


def company_ratios() -> dict[str, Column]:
    """The formulas over the years by feature name, not yet held to their ranges; those of the industry and the economy are elsewhere."""
    now, before, before2 = map(Year, YEARS)
    ratios, ratios_before, ratios_before2 = now.ratios(), before.ratios(), before2.ratios()

    def change(name: str, years: int) -> Column:
        return ratios[name] - (ratios_before, ratios_before2)[years - 1][name]

    def volatility(name: str) -> Column:
        return spread([ratios[name], ratios_before[name], ratios_before2[name]])

    gross_profit = F.coalesce(now["gross_profit"], now.revenue - now["cost_of_sales"])
    cash_flow = F.coalesce(now["operating_cash_flow"], now.net_income + now.depreciation_and_amortization)
    return ratios | {
        "current_ratio": ratio(now["current_assets"], now["current_liabilities"]),
        "quick_ratio": ratio(now["current_assets"] - F.coalesce(now["inventory"], F.lit(0.0)), now["current_liabilities"]),
        "cash_ratio": ratio(now["cash"], now["current_liabilities"]),
        "long_term_debt_to_assets": ratio(now["long_term_debt"], now.assets),
        "current_liabilities_to_assets": ratio(now["current_liabilities"], now.assets),
        "negative_equity": negative_equity(now),
        "ebitda_to_liabilities": ratio(now.ebitda, now.liabilities),
        "interest_cover": ratio(now["ebit"], now["interest_expense"]),
        "market_to_book": ratio(now["market_value"], now.equity),
        "net_income_to_market_assets": ratio(now.net_income, now.market_assets),
        "retained_earnings_to_assets": ratio(now["retained_earnings"], now.assets),
        "operating_margin": ratio(now["ebit"], now.revenue),
        "gross_margin": ratio(gross_profit, now.revenue),
        "two_years_of_losses": two_losses(now, before),
        "cash_flow_to_liabilities": ratio(cash_flow, now.liabilities),
        "receivables_to_revenue": ratio(now["receivables"], now.revenue),
        "inventory_to_revenue": ratio(now["inventory"], now.revenue),
        "operating_expenses_to_revenue": ratio(now["operating_expenses"], now.revenue),
        "depreciation_to_assets": ratio(now.depreciation_and_amortization, now.assets),
        "log_assets": log(now.assets),
        "revenue_growth": log(now.revenue) - log(before.revenue),
        "assets_growth": log(now.assets) - log(before.assets),
        "market_value_growth": log(now["market_value"]) - log(before["market_value"]),
        "net_income_change": income_change(now, before),
        "liabilities_to_assets_change_1y": change("liabilities_to_assets", 1),
        "liabilities_to_assets_change_2y": change("liabilities_to_assets", 2),
        "market_leverage_change_1y": change("market_leverage", 1),
        "market_leverage_change_2y": change("market_leverage", 2),
        "net_income_to_assets_change_1y": change("net_income_to_assets", 1),
        "ebit_to_assets_change_2y": change("ebit_to_assets", 2),
        "working_capital_to_assets_change_1y": change("working_capital_to_assets", 1),
        "asset_turnover_change_2y": change("asset_turnover", 2),
        "net_income_to_assets_volatility": volatility("net_income_to_assets"),
        "liabilities_to_assets_volatility": volatility("liabilities_to_assets"),
        "asset_turnover_volatility": volatility("asset_turnover"),
        "log_market_value_volatility": volatility("log_market_value"),
        "altman_z": altman_z(now),
        "ohlson_o": ohlson_o(now, before),
    }


def build_economy(spine: DataFrame, market_indicator: DataFrame, currency: str) -> DataFrame:
    """credit_spread, policy_rate and unemployment_change by as_of_date: as known by then, null where no series tells it.

    Of a month that was revised, the version known last; the change holds the newest month against the same month a year before.
    """
    policy_rate, unemployment = POLICY_RATES.get(currency), UNEMPLOYMENT_RATES.get(currency)
    known = market_indicator.where(F.col("series_id").isin([name for name in (CREDIT_SPREAD, policy_rate, unemployment) if name]))
    of_series = ("as_of_date", "series_id")
    newest = F.max("observed_on").over(Window.partitionBy(*of_series))
    told = (
        spine.select("as_of_date").distinct()
        .join(known.select("series_id", "observed_on", "known_from", "value"), on=F.col("known_from") <= F.col("as_of_date"), how="inner")
        .groupBy(*of_series, "observed_on").agg(F.max_by("value", "known_from").alias("value"))
        .withColumn("year_before", F.add_months(newest, -12)).groupBy(*of_series)
        .agg(
            F.max_by("value", "observed_on").alias("newest"),
            F.max(F.when(F.col("observed_on") == F.col("year_before"), F.col("value"))).alias("year_before"),
        )
    )

    def of(series: str | None, value: Column) -> Column:
        return F.max(F.when(F.col("series_id") == F.lit(series), value))

    return told.groupBy("as_of_date").agg(
        of(CREDIT_SPREAD, F.col("newest")).alias("credit_spread"),
        of(policy_rate, F.col("newest")).alias("policy_rate"),
        of(unemployment, F.col("newest") - F.col("year_before")).alias("unemployment_change"),
    )


def build_company_features(spine: DataFrame, silver: Mapping[str, DataFrame], currency: str) -> DataFrame:
    """One row per spine row of a company that can be scored (see with_years): filing_id, period_end and all features.

    silver: the tables company, filing, statement_item and market_indicator. Nothing that became known after the as-of date enters.
    """
    company, statements = silver["company"], build_statements(silver["filing"], silver["statement_item"])
    days = {"month": "as_of_date", "told_month": "told_on"}
    years = with_years(spine, statements).withColumns({month: F.trunc(day, "month") for month, day in days.items()})
    months = years.select(F.explode(F.array("month", "told_month")).alias("month")).distinct()
    industries = build_industries(months, company, build_year_ratios(statements)).persist()
    rate = industries.select("month", "industry", "industry_distress_rate")
    # Held against the industry as it was when the statements were told: peers that tell theirs later move nothing.
    medians = industries.select(F.col("month").alias("told_month"), "industry", *(f"industry_{name}" for name in MEDIANS))
    rows = (
        with_industry(years, company)
        .join(F.broadcast(rate), on=["month", "industry"], how="left")
        .join(F.broadcast(medians), on=["told_month", "industry"], how="left")
        .join(F.broadcast(build_economy(spine, silver["market_indicator"], currency)), on="as_of_date", how="left")
    )
    formulas = company_ratios()
    formulas |= {f"{name}_over_industry": formulas[name] - F.col(f"industry_{name}") for name in MEDIANS}
    return rows.select(*SPINE, "filing_id", "period_end", *(
        _within(formulas.get(feature.name, F.col(feature.name)), feature.low, feature.high).alias(feature.name) for feature in COMPANY_FEATURES
    ))


def build_unscored(spine: DataFrame, features: DataFrame, filing: DataFrame, statement_item: DataFrame) -> DataFrame:
    """The spine rows without features (as of ``build_company_features``), each with the reason of conf.tables.COMPANY_UNSCORED."""
    known = spine.select(*SPINE).join(build_statements(filing, statement_item), on="company_id", how="inner")
    newest = known.where(F.col("known_from") <= F.col("as_of_date")).groupBy(*SPINE).agg(F.max("period_end").alias("newest"))
    age = F.months_between("as_of_date", "newest")
    reason = (
        F.when(F.col("newest").isNull(), F.lit("no_statements"))
        .when(age > MAX_STATEMENT_AGE_MONTHS, F.lit("stale_statements")).otherwise(F.lit("too_few_statements"))
    )
    without = spine.select(*SPINE).join(features.select(*SPINE), on=list(SPINE), how="left_anti")
    return without.join(newest, on=list(SPINE), how="left").select(*SPINE, reason.alias("reason"))


def _within(value: Column, low: float, high: float) -> Column:
    # greatest and least skip nulls, which here must stay null.
    return F.when(value.isNotNull(), F.greatest(F.least(value, F.lit(float(high))), F.lit(float(low))))
