"""The reasons of a score, each declared once: which features it stands for and its words in English and Korean.

A reason has two codes, by what it did to the risk of this borrower: ``<name>_raised_risk`` and ``<name>_lowered_risk``.
The codes of a score come in the order of their absolute effect on its log-odds of default, strongest first. Batches
keep the codes they were published with, so a reason may be added, never renamed.
"""

from __future__ import annotations

from dataclasses import dataclass

# What a score tells; fewer only where fewer reasons moved it.
REASONS_TOLD = 4


@dataclass(frozen=True)
class Words:
    """One sentence in both languages, as one would say it to the borrower."""

    en: str
    ko: str


@dataclass(frozen=True)
class RiskWords:
    """What a reason raises or lowers; ko with its particle."""

    en: str = "your risk of default"
    ko: str = "부도 위험을"


@dataclass(frozen=True)
class Reason:
    """What features say together. en and ko are the subject of its sentences, ko with its particle."""

    name: str
    en: str
    ko: str
    features: tuple[str, ...]
    risk: RiskWords = RiskWords()

    @property
    def codes(self) -> dict[str, Words]:
        """The words of the code for a raised risk, then of that for a lowered one."""
        return {
            f"{self.name}_raised_risk": Words(f"{self.en} raised {self.risk.en}.", f"{self.ko} {self.risk.ko} 높였습니다."),
            f"{self.name}_lowered_risk": Words(f"{self.en} lowered {self.risk.en}.", f"{self.ko} {self.risk.ko} 낮췄습니다."),
        }


REASONS: tuple[Reason, ...] = (
    Reason("age", "Your age", "고객님의 나이가", ("age_years",)),
    Reason("gender", "Your gender", "고객님의 성별이", ("is_female",)),
    Reason("family", "Your marital status and the number of your dependents", "결혼 여부와 부양가족 수가", ("is_married", "dependents")),
    Reason("education", "Your level of education", "학력이", ("education_level",)),
    Reason("home", "Whether you rent or own your home", "주거 형태(임차 또는 자가)가", ("home_ownership_level",)),
    Reason("employment", "Your kind of employment and how long you have been in it", "고용 형태와 근속 기간이", ("employment_years", "is_self_employed")),
    Reason("income_level", "The level of your income", "소득 수준이", (
        "main_income", "other_income", "total_income_log", "income_to_region_median", "income_per_head", "income_mean_6m",
    )),
    Reason("income_proof", "Whether your income has been verified", "소득 증빙 여부가", ("income_verified",)),
    Reason("income_stability", "How steady your income has been", "소득의 안정성이", ("income_trend_6m", "income_volatility_12m")),
    Reason("bureau_score", "Your credit bureau score", "신용평가사 점수가", ("bureau_score",)),
    Reason("debt_service", "How much of your income goes into debt payments", "소득에서 부채 상환액이 차지하는 비중이", (
        "debt_to_income", "installment_to_income_3m",
    )),
    Reason("late_payments", "The late payments in your credit record", "신용 기록에 있는 연체 이력이", (
        "delinquencies_24m", "months_since_delinquency", "past_due_amount", "worst_days_past_due_24m",
    )),
    Reason("public_records", "The bankruptcies and other entries in public records", "파산 등 공공 기록이", (
        "months_since_public_record", "public_records",
    )),
    Reason("credit_inquiries", "The number of your recent credit inquiries", "최근 신용 조회 건수가", ("inquiries_6m",)),
    Reason("credit_lines", "The number and size of your credit lines", "신용 거래의 수와 한도 규모가", (
        "open_lines", "total_lines", "total_credit_limit",
    )),
    Reason("credit_history", "The length of your credit history", "신용 거래 기간이", ("credit_history_months", "newest_line_age_months")),
    Reason("card_utilisation", "How much of your card limits you use", "카드 한도 사용률이", (
        "revolving_utilisation", "utilisation_last", "utilisation_mean_6m", "utilisation_max_12m", "utilisation_trend_6m",
    )),
    Reason("debt_level", "The amount you owe on cards and other credit lines", "카드와 그 밖의 신용 거래의 부채 규모가", (
        "revolving_balance", "installment_balance",
    )),
    Reason("platform_loans", "The loans you already have with us", "당사에서 이미 이용 중인 대출이", ("live_loans", "platform_debt")),
    Reason("loan_size", "The size of the loan compared with your income", "소득 대비 대출 금액이", ("loan_amount_to_income",)),
    Reason("loan_term", "The term of the loan", "대출 기간이", ("loan_term_months",)),
    Reason("loan_purpose", "What the loan is for", "대출의 용도가", ("loan_for_business",)),
    Reason("loan_rate", "The interest rate of the loan", "대출 금리가", ("loan_interest_rate",)),
    Reason("card_spending", "The level and course of your card spending", "카드 사용액의 수준과 추이가", (
        "card_spend_mean_3m", "card_spend_mean_12m", "card_spend_trend_6m", "card_spend_volatility_12m",
    )),
    Reason("cash_advances", "Your use of cash advances", "현금서비스 이용이", (
        "cash_advance_mean_3m", "cash_advance_share_6m", "cash_advance_months_12m",
    )),
    Reason("cash_flow", "What comes into and goes out of your account", "계좌의 입금과 출금 흐름이", (
        "deposit_mean_3m", "deposit_mean_12m", "deposit_trend_6m", "withdrawal_mean_3m", "withdrawal_mean_12m",
        "withdrawal_to_deposit_6m",
    )),
    Reason("account_balance", "The level and course of your account balance", "계좌 잔액의 수준과 추이가", (
        "balance_mean_3m", "balance_mean_12m", "balance_min_3m", "balance_min_12m", "balance_end_last",
        "balance_trend_6m", "balance_volatility_12m", "balance_to_spend_3m",
    )),
    Reason("overdrafts", "How often your account was overdrawn", "마이너스 잔액이 발생한 빈도가", (
        "overdraft_days_3m", "overdraft_days_12m", "overdraft_months_12m",
    )),
    Reason("account_activity", "How long and how actively you have used your account", "계좌의 이용 기간과 거래 빈도가", (
        "transactions_mean_3m", "transactions_trend_6m", "months_observed_12m",
    )),
    Reason("repayments", "How much of your instalments due with us you have paid", "당사 할부금의 상환 실적이", (
        "paid_to_due_3m", "paid_to_due_12m", "installments_paid",
    )),
    Reason("late_installments", "How often and how long your instalments with us were late", "당사 할부금의 상환 지연 이력이", (
        "days_past_due_last", "days_past_due_max_6m", "days_past_due_max_12m", "late_installments_12m", "months_since_late",
    )),
)
# The place of each feature's reason among REASONS.
REASON_OF: dict[str, int] = {feature: place for place, reason in enumerate(REASONS) for feature in reason.features}
# The words of every code, in the order in which reasons of the same effect are told.
REASON_WORDS: dict[str, Words] = {code: words for reason in REASONS for code, words in reason.codes.items()}
