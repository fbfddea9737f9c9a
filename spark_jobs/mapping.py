"""Mapping: bronze text into typed silver rows, and every rule that a row breaks.

Rules are named: ``malformed_row``, ``ambiguous:<file>``, ``text:<column>``, ``parse:<column>``, ``code:<column>``,
``required:<column>``, ``unique_key``, ``orphan:<table>``, and the row rules of ``expectations/<table>.yaml`` by their own names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from conf.source import ColumnMapping, Join, Of, RowFilter, Source, TableMapping
from conf.tables import BORROWER, COMPANY, FILING, LOAN, MAX_ID, QUARANTINE, Table
from expectations.rules import row_rules
from spark_jobs.mapping_functions import COLUMN_FUNCTIONS, TABLE_FUNCTIONS

# Which table a column points to; a row that points to nothing is an orphan.
PARENTS: dict[str, tuple[Table, ...]] = {
    "credit_report": (BORROWER,), "credit_line": (BORROWER,), "credit_inquiry": (BORROWER,), "account_month": (BORROWER,),
    "loan": (BORROWER,), "repayment": (BORROWER, LOAN), "filing": (COMPANY,), "statement_item": (FILING,),
}
_TYPES = {
    "string": "string", "integer": "int", "decimal": "decimal(18,2)", "double": "double", "boolean": "boolean",
    "date": "date", "timestamp": "timestamp",
}
# What one raw unit is in the canonical unit.
_FACTORS = {
    "one": "1", "percent": "0.01", "bps": "0.0001", "cents": "0.01", "thousands": "1000", "ten_thousands": "10000",
    "millions": "1000000", "years": "12",
}
BROKEN = "broken_rules"
_ORIGIN = ("source_file", "row_number")


class MappingError(ValueError):
    """A mapping refers to something that does not exist; the message names its line."""


def raw_text(column: str, null_values: tuple[str, ...]) -> Column:
    """A raw column, trimmed; null where it holds nothing."""
    text = F.trim(F.col(f"`{column}`"))
    return F.when(~text.isin("", *null_values), text)


def parsed(text: Column, parse: str, formats: tuple[str, ...], unit: str, to_type: str) -> Column:
    """The value of a text in its canonical unit and type; null where the text is no such value.

    A whole number may end in ``.0``; decimals are rounded half up to the type's scale; a double must be finite.
    """
    if parse == "string":
        return text
    if parse == "boolean":
        return text.try_cast("boolean")
    if parse in ("date", "timestamp"):
        moment = F.try_to_date if parse == "date" else F.try_to_timestamp
        return F.coalesce(*(moment(text, F.lit(form) if parse == "timestamp" else form) for form in formats or ("yyyy-MM-dd",)))
    if parse == "double" and unit == "one":
        number = text.try_cast("double")
        return F.when(~F.isnan(number) & (F.abs(number) < float("inf")), number)
    # Through a decimal, so that 13.35 percent is 0.1335 and not 0.13350000000000001.
    number = F.regexp_replace(text, r"\s*%$", "") if unit == "percent" else text
    exact = F.try_multiply(number.try_cast("decimal(28,10)"), F.lit(Decimal(_FACTORS[unit])))
    if parse == "integer":
        exact = F.when(exact == F.floor(exact), exact)
    return exact.try_cast(to_type)


def with_joined(rows: DataFrame, source: Source, mapping: TableMapping, join: Join, landed: DataFrame | None) -> DataFrame:
    """The bronze rows with the columns that the mapping reads of a joined file, as ``<file>.<column>``, empty without a match.

    Adds ``_matches_<file>``, how many rows the file's last delivery of the key has; null without a match. landed: all
    bronze rows of the file, None where it never landed. No row is lost and none doubled.
    """
    names = [name for kind, name in mapping.read_columns() if kind == join.file]
    matches = f"_matches_{join.file}"
    if landed is None:
        nothing = dict.fromkeys([f"{join.file}.{name}" for name in names], F.lit(None).cast("string"))
        return rows.withColumns(nothing | {matches: F.lit(None).cast("bigint")})
    null_values = source.files[join.file].csv.null_values
    told = {name: raw_text(name, null_values) for name in names}
    keys = {f"_key_{place}": name for place, name in enumerate(join.on.values())}
    conditions = [told[name].isNotNull() for name in keys.values()]
    conditions += [_taken(condition, null_values) for condition in join.where]
    by_key = (
        landed.where(reduce(Column.__and__, conditions))
        .groupBy(*(told[name].alias(key) for key, name in keys.items()), "_ingested_at")
        .agg(F.count("*").alias(matches), F.min(F.struct(*(text.alias(name) for name, text in told.items()))).alias("match"))
        .groupBy(*keys)
        .agg(F.max_by(F.struct(matches, "match"), "_ingested_at").alias("_last"))
    )
    same = [F.col(key) == raw_text(own, null_values_of(source, mapping, own)) for key, own in zip(keys, join.on, strict=True)]
    return (
        rows.join(by_key, on=reduce(Column.__and__, same), how="left")
        .withColumns({f"{join.file}.{name}": F.col("_last.match").getField(name) for name in names})
        .withColumn(matches, F.col("_last").getField(matches))
        .drop(*keys, "_last")
    )


def null_values_of(source: Source, mapping: TableMapping, column: str) -> tuple[str, ...]:
    """What stands for nothing in a raw column of a mapping: in a joined one all of it is empty by now."""
    file, _ = mapping.origin(column)
    return source.files[file].csv.null_values if file == mapping.from_file else ()


def build_typed(
    source: Source, table: Table, number: int, raw: DataFrame, landed: Mapping[str, DataFrame]
) -> DataFrame:
    """The rows of one mapping with its columns typed, their origin, landed_on, and the rules broken so far.

    One row per bronze row that the mapping's filters take; malformed rows come with nulls and ``malformed_row``. landed:
    as in build_checked. Raises MappingError for an unknown column function.
    """
    mapping = source.tables[table.name][number]
    joined = reduce(lambda rows, join: with_joined(rows, source, mapping, join, landed.get(join.file)), mapping.join, raw)
    malformed = F.col("_malformed").isNotNull()
    conditions = (_taken(condition, null_values_of(source, mapping, condition.column)) for condition in mapping.where)
    taken = reduce(Column.__and__, conditions, F.lit(True))
    file = source.files[mapping.from_file]
    landed_on = F.regexp_extract("_source_file", file.landed_on, 1).try_cast("date") if file.landed_on else F.lit(None).cast("date")

    values: dict[str, Column] = {}
    rules: list[Column] = [F.when(malformed, F.lit("malformed_row"))]
    rules += [F.when(F.col(f"_matches_{join.file}") > 1, F.lit(f"ambiguous:{join.file}")) for join in mapping.join]
    for column, spec in mapping.columns.items():
        null_values = null_values_of(source, mapping, spec.column) if spec.column else ()
        values[column], broken = _value(source, table, column, spec, null_values)
        rules += [F.when(~malformed & condition, F.lit(rule)) for rule, condition in broken]
    plain = joined.where(malformed | taken).select(
        F.col("_source_file").alias("source_file"), F.col("_row_number").alias("row_number"), landed_on.alias("landed_on"),
        spoken(*rules).alias(BROKEN), *(value.alias(column) for column, value in values.items()),
    )
    derived = {
        column: _derived(source, table, number, column, spec) for column, spec in mapping.columns.items() if spec.function
    }
    filled = {}
    if mapping.function is None:
        if "known_from" not in mapping.columns:
            filled["known_from"] = F.col("landed_on")
        if "currency" in table.columns and "currency" not in mapping.columns:
            filled["currency"] = F.lit(source.currency)
    rows = plain.withColumns(filled)
    for column, value in derived.items():
        rows = rows.withColumn(column, value)
    return rows


def _taken(condition: RowFilter, null_values: tuple[str, ...]) -> Column:
    text = F.coalesce(raw_text(condition.column, null_values), F.lit(""))
    return text.isin(*condition.is_in) if condition.is_in else ~text.isin(*condition.is_not_in)


def _value(
    source: Source, table: Table, column: str, spec: ColumnMapping, null_values: tuple[str, ...]
) -> tuple[Column, list[tuple[str, Column]]]:
    """A column's value before its function, and the rules that its text can break, each with when it does."""
    parse = source.parse_of(table.name, column, spec)
    # A column with another way of parsing than its type is brought there by its function.
    to_type = table.types.get(column, _TYPES[parse]) if spec.parse is None else _TYPES[parse]
    if spec.column is None:
        constant = F.lit(None if spec.constant is None else str(spec.constant))
        return constant.cast(to_type), []
    text = raw_text(spec.column, null_values)
    rules = []
    readable = text
    if spec.codes is not None:
        codes = {raw: _code_text(code) for raw, code in spec.codes.items()}
        listed = F.create_map(*(F.lit(part).cast("string") for pair in codes.items() for part in pair))
        readable = F.try_element_at(listed, text)
        rules.append((f"code:{column}", text.isNotNull() & ~text.isin(*codes)))
    elif parse == "string":
        # PostgreSQL, where all this ends, takes no NUL and indexes no long key.
        too_long = F.length(text) > MAX_ID if column.endswith("_id") else F.lit(False)
        rules.append((f"text:{column}", text.contains("\0") | too_long))
    value = parsed(readable, parse, spec.format, spec.unit, to_type)
    if parse != "string":
        rules.append((f"parse:{column}", readable.isNotNull() & value.isNull()))
    if spec.default is not None:
        value = F.when(text.isNull(), F.lit(_code_text(spec.default)).cast(to_type)).otherwise(value)
    elif spec.required:
        rules.append((f"required:{column}", text.isNull()))
    return value, rules


def _code_text(code: object) -> str | None:
    if code is None:
        return None
    return str(code).lower() if isinstance(code, bool) else str(code)


def _derived(source: Source, table: Table, number: int, column: str, spec: ColumnMapping) -> Column:
    if spec.function not in COLUMN_FUNCTIONS:
        line = source.line("tables", table.name, number, "columns", column, "function")
        raise MappingError(f"{line}: no column function {spec.function}; there are {sorted(COLUMN_FUNCTIONS)}")
    arguments = {name: F.col(value.of) if isinstance(value, Of) else value for name, value in spec.arguments.items()}
    derived = COLUMN_FUNCTIONS[spec.function](F.col(column), **arguments)
    return derived.cast(table.types[column]) if column in table.types else derived


def build_checked(
    source: Source,
    table: Table,
    raw: Mapping[str, DataFrame],
    parents: Mapping[str, DataFrame],
    landed: Mapping[str, DataFrame] | None = None,
) -> DataFrame:
    """All rows that a source's files hold for a table, with the table's columns and ``broken_rules``.

    raw: bronze rows by kind of file. parents: silver tables by name, for the orphan check. landed: all that ever landed
    of the files that mappings join, by kind; by default raw. Of rows with the same key
    the first that breaks nothing else keeps it, by landing day, file and row; the others break ``unique_key``. Where
    a table function makes several rows of one, a rule that one of them breaks takes them all.
    Raises MappingError for an unknown function.
    """
    parts = [
        _build_part(source, table, number, raw[mapping.from_file], raw if landed is None else landed)
        for number, mapping in enumerate(source.tables[table.name]) if mapping.from_file in raw
    ]
    rows = with_unique_key(with_orphans(reduce(DataFrame.unionByName, parts), table, parents), table)
    if any(mapping.function for mapping in source.tables[table.name]):
        whole = Window.partitionBy(*_ORIGIN)
        rows = rows.withColumn(BROKEN, F.array_distinct(F.flatten(F.collect_list(BROKEN).over(whole))))
    return rows.select(*table.columns, BROKEN)


def _build_part(source: Source, table: Table, number: int, raw: DataFrame, landed: Mapping[str, DataFrame]) -> DataFrame:
    """The rows of one mapping in the table's columns, with landed_on and the rules that a row breaks by itself."""
    mapping = source.tables[table.name][number]
    typed = build_typed(source, table, number, raw, landed)
    if mapping.function is None:
        rows = with_row_rules(_conformed(table, typed), table)
        return rows.withColumn(BROKEN, _with_rule(F.col("known_from") > F.col("landed_on"), "known_after_landing"))
    if mapping.function not in TABLE_FUNCTIONS:
        line = source.line("tables", table.name, number, "function")
        raise MappingError(f"{line}: no table function {mapping.function}; there are {sorted(TABLE_FUNCTIONS)}")
    made = TABLE_FUNCTIONS[mapping.function](typed.where(F.size(BROKEN) == 0).drop(BROKEN), **mapping.arguments)
    if "currency" in table.columns and "currency" not in made.columns:
        made = made.withColumn("currency", F.lit(source.currency))
    if BROKEN not in made.columns:
        made = made.withColumn(BROKEN, F.array().cast("array<string>"))
    broken = _conformed(table, typed.where(F.size(BROKEN) > 0))
    # Of these only what the mapping itself fills can be told; what the function would have made is null.
    told = [column for column in table.required if column in mapping.columns]
    return with_row_rules(_conformed(table, made), table).unionByName(with_row_rules(broken, table, told))


def _conformed(table: Table, rows: DataFrame) -> DataFrame:
    """The table's columns (null where the rows lack one), landed_on and the broken rules."""
    schema = StructType.fromDDL(table.ddl)
    columns = [
        (F.col(field.name) if field.name in rows.columns else F.lit(None)).try_cast(field.dataType.simpleString()).alias(field.name)
        for field in schema
    ]
    return rows.select(*columns, "landed_on", BROKEN)


def with_row_rules(rows: DataFrame, table: Table, required: Sequence[str] | None = None) -> DataFrame:
    """broken_rules with nulls where none may be, and with the table's row rules; not of rows that no column was read of.

    required: the columns that must not be null, by default those of the table.
    """
    told = F.transform(F.col(BROKEN), lambda rule: F.element_at(F.split(rule, ":"), -1))
    missing = [
        F.when(F.col(column).isNull() & ~F.array_contains(told, column), F.lit(f"required:{column}"))
        for column in (table.required if required is None else required)
    ]
    rules = [F.when(~F.expr(rule.sql), F.lit(rule.name)) for rule in row_rules(table)]
    more = spoken(*missing, *rules)
    return rows.withColumn(
        BROKEN, F.when(F.array_contains(BROKEN, "malformed_row"), F.col(BROKEN)).otherwise(F.concat(BROKEN, more))
    )


def spoken(*rules: Column) -> Column:
    """The rules that are not null, as an array.

    Not by array_compact: Spark evaluates that, and with it all the rules, without compiling them.
    """
    return F.array_except(F.array(*rules), F.array(F.lit(None).cast("string")))


def with_orphans(rows: DataFrame, table: Table, parents: Mapping[str, DataFrame]) -> DataFrame:
    """broken_rules with ``orphan:<parent table>`` where a row's parent is unknown; an absent id is no orphan."""
    for parent in PARENTS.get(table.name, ()):
        key = parent.key[0]
        known = parents[parent.name].select(key).distinct().withColumn("is_known", F.lit(True))
        orphan = F.col(key).isNotNull() & F.col("is_known").isNull()
        rows = rows.join(known, key, "left").withColumn(BROKEN, _with_rule(orphan, f"orphan:{parent.name}")).drop("is_known")
    return rows


def with_unique_key(rows: DataFrame, table: Table) -> DataFrame:
    """broken_rules with ``unique_key`` on all but the first row of a key, rows that break nothing else going first."""
    for key in filter(None, (table.key, table.also_unique)):
        order = Window.partitionBy(*key).orderBy(F.size(BROKEN) > 0, F.col("landed_on").asc_nulls_first(), *_ORIGIN)
        complete = reduce(Column.__and__, (F.col(column).isNotNull() for column in key))
        is_later = complete & (F.row_number().over(order) > 1) & ~F.array_contains(BROKEN, "unique_key")
        rows = rows.withColumn("is_later", is_later).withColumn(BROKEN, _with_rule(F.col("is_later"), "unique_key")).drop("is_later")
    return rows


def _with_rule(condition: Column, rule: str) -> Column:
    return F.when(condition, F.concat(F.col(BROKEN), F.array(F.lit(rule)))).otherwise(F.col(BROKEN))


def content_hash(table: Table) -> Column:
    """A row's content apart from where it came from."""
    return F.xxhash64(*(F.col(column) for column in table.columns if column not in _ORIGIN))


def with_known_keys(rows: DataFrame, table: Table, silver: DataFrame) -> DataFrame:
    """Rows held against those that silver has: already_there, and ``unique_key`` where another row has the key.

    The same row of a file that was delivered before is already there and breaks nothing, wherever in the file it stands.
    """
    before = silver.select(
        *table.key, F.col("source_file").alias("before_file"), content_hash(table).alias("before_content"),
    )
    is_same = (
        (F.col("before_file") == F.col("source_file")) & (F.col("before_content") == content_hash(table))
        & ~F.array_contains(BROKEN, "unique_key")
    )
    joined = rows.join(before, list(table.key), "left").withColumn("already_there", F.coalesce(is_same, F.lit(False)))
    taken = F.col("before_file").isNotNull() & ~F.col("already_there") & ~F.array_contains(BROKEN, "unique_key")
    return joined.withColumn(BROKEN, _with_rule(taken, "unique_key")).drop("before_file", "before_content")


def build_broken(rows: DataFrame, table: Table) -> DataFrame:
    """One row per raw row that breaks a rule, or of which a row was made that does, with all these rules.

    row_key: the first of its keys, key columns joined by ``|``.
    """
    key = F.concat_ws("|", *(F.coalesce(F.col(column).cast("string"), F.lit("?")) for column in table.key))
    return rows.where(F.size(BROKEN) > 0).groupBy(*_ORIGIN).agg(
        F.array_sort(F.array_distinct(F.flatten(F.collect_list(BROKEN)))).alias(BROKEN),
        F.min(key).alias("row_key"), F.min("known_from").alias("known_from"),
    )


def build_quarantine(broken: DataFrame, raw: Mapping[str, DataFrame], table: Table) -> DataFrame:
    """Quarantine rows: the broken rows of a table, each with its raw row.

    raw: bronze rows of the table's files, by kind.
    """
    met = [
        frame.select(
            F.col("_source_file").alias("source_file"), F.col("_row_number").alias("row_number"),
            F.col("_batch_id").alias("batch_id"), F.col("_malformed").alias("line"),
            F.struct(*(F.col(f"`{name}`") for name in _raw_columns(frame))).alias("fields"),
        ).join(broken, list(_ORIGIN), "inner").withColumn("raw", F.coalesce("line", F.to_json("fields"))).drop("fields")
        for frame in raw.values()
    ]
    return reduce(DataFrame.unionByName, met).withColumn("table_name", F.lit(table.name)).select(*QUARANTINE.columns)


def _raw_columns(frame: DataFrame) -> list[str]:
    return [name for name in frame.columns if name not in ("_batch_id", "_source_file", "_row_number", "_ingested_at", "_malformed")]
