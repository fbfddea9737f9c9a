"""Great Expectations suites, one per table, over aggregates that one Spark pass has measured.

A suite never asks Spark by itself: 63 expectations asked one by one cost 145 Spark jobs. ``measures`` says what to
aggregate, ``suite`` what each aggregate must be; both come from the table's declaration and its rules.
"""

from __future__ import annotations

import fcntl
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

import great_expectations as gx
import pandas as pd
from great_expectations.core import ExpectationSuiteValidationResult
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context import FileDataContext
from great_expectations.data_context.types.resource_identifiers import ValidationResultIdentifier

from conf.tables import Table
from expectations.measures import Bound, measures

SITE = "reports"
# The index lists so many of the newest results, some weeks of nights; the pages of all others stay where they are.
INDEX_RESULTS = 500


@dataclass(frozen=True)
class Measured:
    """A table's numbers, as gathered by one job. more: bounds of numbers that the table's own rules do not know."""

    table: Table
    job: str
    values: Mapping[str, float | None]
    more: Mapping[str, Bound] = field(default_factory=dict)

    @property
    def gate(self) -> str:
        """The gate's name, which is also the suite's."""
        return f"{self.job}.{self.table.name}"


@dataclass(frozen=True)
class Verdict:
    """What a suite found. failed: names of the numbers out of bounds; page: its page in Data Docs."""

    success: bool
    expectation_count: int
    failed: tuple[str, ...]
    page: Path


def suite(table: Table, job: str | None = None, more: Mapping[str, Bound] | None = None) -> gx.ExpectationSuite:
    """The suite of a table, named ``<job>.<table>``: one expectation per bounded number."""
    bounds = {name: measure.bound for name, measure in measures(table).items()} | dict(more or {})
    return gx.ExpectationSuite(
        f"{job or table.owner}.{table.name}",
        expectations=[
            gx.expectations.ExpectColumnMaxToBeBetween(
                column=name, min_value=bound.low, max_value=bound.high, description=f"{name}: {bound.meaning}"
            )
            for name, bound in bounds.items()
            if bound.low is not None or bound.high is not None
        ],
    )


def judge(measured: Sequence[Measured], as_of_date: date, reports: Path) -> list[Verdict]:
    """Validate each table's numbers by its suite and build Data Docs once, under ``reports/data_docs``.

    A null number (nothing to measure it on) is left out, as a null holds in a CHECK. A page's address depends on
    suite and as-of date only: judging again replaces it.
    """
    with _context(reports) as context:
        results = [_validate(context, one, as_of_date) for one in measured]
        pages = [_page_key(context, one, as_of_date) for one in measured]
        context.build_data_docs(site_names=[SITE], resource_identifiers=pages)
    return [
        Verdict(
            success=bool(result.success),
            expectation_count=len(result.results),
            failed=tuple(sorted(one.expectation_config.kwargs["column"] for one in result.results if not one.success)),
            page=reports / "data_docs" / "validations" / Path(*page.to_tuple()).with_suffix(".html"),
        )
        for result, page in zip(results, pages, strict=True)
    ]


def _validate(context: FileDataContext, measured: Measured, as_of_date: date) -> ExpectationSuiteValidationResult:
    judged = suite(measured.table, measured.job, measured.more)
    judged.expectations = [one for one in judged.expectations if measured.values[one.column] is not None]
    definition = gx.ValidationDefinition(
        name=measured.gate,
        data=(
            context.data_sources.add_or_update_pandas("measured").add_dataframe_asset(measured.table.name)
            .add_batch_definition_whole_dataframe("one row")
        ),
        suite=context.suites.add_or_update(judged),
    )
    return context.validation_definitions.add_or_update(definition).run(
        batch_parameters={"dataframe": pd.DataFrame([dict(measured.values)])},
        run_id=RunIdentifier(run_name=as_of_date.isoformat(), run_time=datetime.combine(as_of_date, datetime.min.time())),
    )


def _page_key(context: FileDataContext, measured: Measured, as_of_date: date) -> ValidationResultIdentifier:
    return next(
        key for key in context.validation_results_store.list_keys()
        if key.expectation_suite_identifier.name == measured.gate and key.run_id.run_name == as_of_date.isoformat()
    )


@contextmanager
def _context(reports: Path):
    """The Great Expectations project of a market; one process at a time, as it keeps its state in files."""
    reports.mkdir(parents=True, exist_ok=True)
    with (reports / "gx.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        context = gx.get_context(mode="file", project_root_dir=reports)
        # Nothing leaves the machine, and no progress bars in task logs.
        context.enable_analytics(False)
        context.variables.progress_bars = {"globally": False, "metric_calculations": False}
        site = {
            "class_name": "SiteBuilder",
            "show_how_to_buttons": False,
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(reports / "data_docs")},
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder", "validation_results_limit": INDEX_RESULTS},
            # The limit is the index's alone: the page of a past day that is judged again is made like any other.
            "site_section_builders": {"validations": {"validation_results_limit": None}},
        }
        sites = context.variables.data_docs_sites or {}
        if SITE not in sites:
            context.add_data_docs_site(SITE, site)
        elif sites[SITE] != site:
            context.update_data_docs_site(SITE, site)
        if "local_site" in sites:
            context.delete_data_docs_site("local_site")
        yield context
