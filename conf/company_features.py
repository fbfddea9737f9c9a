"""The features of companies, each declared once; the formulas stand in ``features/company_ratios.py`` under the same names.

Grain of every feature: one value per (company_id, as_of_date), a double. It comes from the annual statements known by then: of
each year the newest version. Null where an account is not told, or where a ratio has no meaning: its denominator is zero or
below. Values beyond the range are set to its end: far out, a ratio says no more than that its denominator is small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from conf.reasons import Reason, RiskWords, Words

Family = Literal["liquidity", "leverage", "market", "profitability", "activity", "size", "growth", "trend", "volatility", "composite", "industry", "economy"]
MIN_STATEMENTS = 3
"""Annual statements that a company needs to be scored: trends and volatility look two years back from the newest."""


@dataclass(frozen=True)
class CompanyFeature:
    """One feature column.

    low and high end the range. raises_risk: 1 where by finance a higher value can only mean more risk of distress, -1 less,
    0 where either is plausible; the model is held to it, all else equal. reason: what of conf.company_features.COMPANY_REASONS
    it belongs to. source: of the formula, beyond the ratio's own name.
    """

    name: str
    family: Family
    low: float
    high: float
    raises_risk: Literal[-1, 0, 1]
    reason: str
    meaning: str
    source: str = "annual statements as known"


_ALTMAN = "Altman 1983, Corporate Financial Distress, and Altman, Hartzell and Peck 1995: Z'' for firms of any industry"
_OHLSON = "Ohlson 1980, Journal of Accounting Research 18(1), model 1"
_SHUMWAY = "Campbell, Hilscher and Szilagyi 2008, Journal of Finance 63(6): assets at market value"
_INDUSTRY = "Chava and Jarrow 2004, Review of Finance 8(4), on effects of industry; statements and failures as known before the month"


def _change(name: str, years: int, of: str, raises_risk: Literal[-1, 0, 1], low: float, high: float, reason: str) -> CompanyFeature:
    return CompanyFeature(name, "trend", low, high, raises_risk, reason, f"{of} less that of {years} year{'s' * (years > 1)} before")


def _volatility(name: str, of: str, high: float, reason: str = "stability") -> CompanyFeature:
    return CompanyFeature(name, "volatility", 0, high, 0, reason, f"standard deviation of {of} over the last three years (of a population)")


COMPANY_FEATURES: tuple[CompanyFeature, ...] = (
    CompanyFeature("current_ratio", "liquidity", 0, 50, -1, "liquidity", "current assets to current liabilities"),
    CompanyFeature("quick_ratio", "liquidity", 0, 50, -1, "liquidity", "current assets less inventory to current liabilities"),
    CompanyFeature("cash_ratio", "liquidity", 0, 50, -1, "liquidity", "cash to current liabilities"),
    CompanyFeature("working_capital_to_assets", "liquidity", -5, 1, -1, "liquidity", "current assets less current liabilities to total assets", _ALTMAN),
    CompanyFeature("liabilities_to_assets", "leverage", 0, 10, 1, "leverage", "total liabilities to total assets"),
    CompanyFeature("long_term_debt_to_assets", "leverage", 0, 5, 1, "leverage", "long-term debt to total assets"),
    CompanyFeature("current_liabilities_to_assets", "leverage", 0, 10, 0, "leverage", "current liabilities to total assets"),
    CompanyFeature("negative_equity", "leverage", 0, 1, 1, "leverage", "1 where liabilities exceed assets", _OHLSON),
    CompanyFeature("ebitda_to_liabilities", "leverage", -10, 10, -1, "debt_service", "EBITDA to total liabilities"),
    CompanyFeature("interest_cover", "leverage", -100, 100, -1, "debt_service", "EBIT to interest expense"),
    CompanyFeature("market_leverage", "market", 0, 1, 1, "market_view", "total liabilities to liabilities and market value", _SHUMWAY),
    CompanyFeature("market_to_book", "market", 0, 100, 0, "market_view", "market value to equity, where equity is above zero"),
    CompanyFeature("log_market_value", "market", -5, 35, -1, "market_view", "logarithm of market value"),
    CompanyFeature("net_income_to_market_assets", "market", -5, 5, -1, "profitability", "net income to liabilities and market value", _SHUMWAY),
    CompanyFeature("retained_earnings_to_assets", "profitability", -50, 5, -1, "past_profits", "retained earnings to total assets", _ALTMAN),
    CompanyFeature("net_income_to_assets", "profitability", -5, 5, -1, "profitability", "net income to total assets", _OHLSON),
    CompanyFeature("ebit_to_assets", "profitability", -5, 5, -1, "profitability", "EBIT to total assets", _ALTMAN),
    CompanyFeature("operating_margin", "profitability", -10, 10, -1, "margins", "EBIT to revenue"),
    CompanyFeature("gross_margin", "profitability", -10, 1, 0, "margins", "gross profit to revenue"),
    CompanyFeature("two_years_of_losses", "profitability", 0, 1, 1, "losses", "1 after a net loss in each of the last two years", _OHLSON),
    CompanyFeature("cash_flow_to_liabilities", "activity", -10, 10, -1, "debt_service", "cash flow of operations to total liabilities"),
    CompanyFeature("asset_turnover", "activity", -1, 20, 0, "activity", "revenue to total assets"),
    CompanyFeature("receivables_to_revenue", "activity", 0, 10, 0, "activity", "receivables to revenue"),
    CompanyFeature("inventory_to_revenue", "activity", 0, 10, 0, "activity", "inventory to revenue"),
    CompanyFeature("operating_expenses_to_revenue", "activity", -5, 20, 0, "margins", "operating expenses to revenue"),
    CompanyFeature("depreciation_to_assets", "activity", 0, 2, 0, "activity", "depreciation and amortization to total assets"),
    CompanyFeature("log_assets", "size", -5, 40, 0, "size", "logarithm of total assets"),
    CompanyFeature("revenue_growth", "growth", -5, 5, 0, "growth", "logarithm of revenue over that of the year before"),
    CompanyFeature("assets_growth", "growth", -5, 5, 0, "growth", "logarithm of total assets over those of the year before"),
    CompanyFeature("market_value_growth", "growth", -5, 5, -1, "market_view", "logarithm of market value over that of the year before"),
    CompanyFeature("net_income_change", "growth", -1, 1, 0, "losses", "change of net income over the sum of both years' amounts", _OHLSON),
    _change("liabilities_to_assets_change_1y", 1, "liabilities to assets", 0, -10, 10, "leverage"),
    _change("liabilities_to_assets_change_2y", 2, "liabilities to assets", 0, -10, 10, "leverage"),
    _change("market_leverage_change_1y", 1, "market leverage", 0, -1, 1, "market_view"),
    _change("market_leverage_change_2y", 2, "market leverage", 0, -1, 1, "market_view"),
    _change("net_income_to_assets_change_1y", 1, "net income to assets", 0, -10, 10, "profitability"),
    _change("ebit_to_assets_change_2y", 2, "EBIT to assets", 0, -10, 10, "profitability"),
    _change("working_capital_to_assets_change_1y", 1, "working capital to assets", 0, -6, 6, "liquidity"),
    _change("asset_turnover_change_2y", 2, "asset turnover", 0, -20, 20, "activity"),
    _volatility("net_income_to_assets_volatility", "net income to assets", 10),
    _volatility("liabilities_to_assets_volatility", "liabilities to assets", 10),
    _volatility("asset_turnover_volatility", "asset turnover", 20),
    _volatility("log_market_value_volatility", "the logarithm of market value", 20, "market_view"),
    CompanyFeature(
        "altman_z", "composite", -500, 100, -1, "soundness",
        "Altman's Z'': 6.56 working capital, 3.26 retained earnings, 6.72 EBIT, each to assets, and 1.05 book equity to liabilities", _ALTMAN,
    ),
    CompanyFeature(
        "ohlson_o", "composite", -100, 200, 1, "soundness",
        "Ohlson's O; assets at a price level of 100 (1968) throughout, EBITDA for funds from operations", _OHLSON,
    ),
    CompanyFeature(
        "industry_distress_rate", "industry", 0, 1, 1, "industry",
        "of the industry's companies that told statements in the last three years, the share that became known to have failed in them", _INDUSTRY,
    ),
    CompanyFeature("industry_net_income_to_assets", "industry", -5, 5, 0, "industry", "median net income to total assets in the industry, when the statements were told", _INDUSTRY),
    CompanyFeature("net_income_to_assets_over_industry", "profitability", -10, 10, -1, "profitability", "net income to total assets, less the industry's median when it was told", _INDUSTRY),
    CompanyFeature("liabilities_to_assets_over_industry", "leverage", -10, 10, 1, "leverage", "total liabilities to total assets, less the industry's median when it was told", _INDUSTRY),
    CompanyFeature("credit_spread", "economy", -20, 50, 0, "economy", "Baa yield over the federal funds rate, percent, newest value known", "series BAAFFM"),
    CompanyFeature("policy_rate", "economy", -5, 50, 0, "economy", "policy rate of the currency's central bank, percent, newest value known", "series FEDFUNDS, or the Bank of Korea's base rate"),
    CompanyFeature("unemployment_change", "economy", -50, 50, 0, "economy", "unemployment rate less that of a year before, percent, newest month known", "series UNRATE, for dollars"),
)
COMPANY_FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in COMPANY_FEATURES)


def _reason(name: str, en: str, ko: str) -> Reason:
    features = tuple(feature.name for feature in COMPANY_FEATURES if feature.reason == name)
    return Reason(f"company_{name}", en, ko, features, RiskWords("the risk of distress", "부실 위험을"))


# Subjects of the sentences; ko with its particle. Codes are published: a reason may be added, never renamed.
COMPANY_REASONS: tuple[Reason, ...] = (
    _reason("liquidity", "The company's short-term assets compared with its short-term liabilities", "단기부채 대비 단기자산(유동성)이"),
    _reason("leverage", "How much of the company is financed by debt", "부채 의존도가"),
    _reason("debt_service", "What the company earns compared with the debt it has to serve", "부채 상환 능력이"),
    _reason("market_view", "How the stock market values the company", "주식시장의 기업가치 평가가"),
    _reason("profitability", "What the company earns on its assets", "자산 대비 수익성이"),
    _reason("past_profits", "The profits or losses that the company has accumulated", "누적 이익잉여금(또는 결손금)이"),
    _reason("margins", "The company's margins and operating expenses", "이익률과 영업비용 구조가"),
    _reason("losses", "The course of the company's net income", "순이익의 추이가"),
    _reason("activity", "How the company's assets turn over", "자산 회전율 등 활동성이"),
    _reason("size", "The company's size", "기업 규모가"),
    _reason("growth", "How fast the company grows or shrinks", "성장 또는 축소 속도가"),
    _reason("stability", "How steady the company's figures have been", "재무 수치의 안정성이"),
    _reason("soundness", "The company's overall score by Altman and Ohlson", "알트만·올슨 종합 재무 건전성 지표가"),
    _reason("economy", "Interest rates, credit spreads and unemployment", "금리, 신용 스프레드와 실업률이"),
    _reason("industry", "How other companies of the industry fare", "같은 업종 기업들의 경영 상황이"),
)
# The place of each feature's reason among COMPANY_REASONS.
COMPANY_REASON_OF: dict[str, int] = {feature: place for place, reason in enumerate(COMPANY_REASONS) for feature in reason.features}
# The words of every code, as conf.reasons.REASON_WORDS has those of borrowers.
COMPANY_REASON_WORDS: dict[str, Words] = {code: words for reason in COMPANY_REASONS for code, words in reason.codes.items()}
