"""A lending source: which files land, and how their columns become the silver tables.

One YAML file per source, ``conf/sources/<name>.yaml``; adding a lender means writing that file. Every error names the
file, the line and the key. Pure configuration: nothing is read here but the YAML.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from conf.features import Block
from conf.settings import ROOT, Product, Settings, WrongSetting, load_settings
from conf.tables import OF_COMPANIES, SILVER, TABLES

SOURCES = ROOT / "conf" / "sources"

Parse = Literal["string", "integer", "decimal", "double", "boolean", "date", "timestamp"]
Unit = Literal["one", "percent", "bps", "cents", "thousands", "ten_thousands", "millions", "years"]
Scalar = str | int | float | bool | date

# What ingest fills by itself: where the row came from, and the source's one currency unless a column says otherwise.
FILLED = ("source_file", "row_number", "currency")
# What an argument may name beside the mapping's own columns.
LANDED = ("known_from", "landed_on")
ORDER_COLUMNS = ("order_id", "investor_id", "amount", "currency", "target_return", "placed_at")
_UNMAPPED = ("market_indicator", "investor_order")
# The tables that tell how a loan or a company goes, row by row as it is known, and what of a loan is known from its listing on.
_COURSE = ("loan", "repayment", "company")
_TERMS = ("loan_id", "borrower_id", "amount", "term_months", "interest_rate", "purpose", "grade", "listed_on")
_LOOKS_AHEAD = "{} is realised: nobody knew it on the day that this row tells of; only the course of a loan or company (status, repayments) may read it"
_PARSE_OF_TYPE: dict[str, Parse] = {
    "STRING": "string", "INT": "integer", "BIGINT": "integer", "DECIMAL(18,2)": "decimal", "DOUBLE": "double",
    "BOOLEAN": "boolean", "DATE": "date", "TIMESTAMP": "timestamp",
}


class SourceError(ValueError):
    """A source's mapping is wrong; the message names file, line and key."""


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_as_list)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Csv(_Model):
    """How a CSV file is written. column_names are needed where it has no header; null_values are read as nothing."""

    delimiter: str = Field(",", min_length=1, max_length=1)
    encoding: str = "UTF-8"
    header: bool = True
    quote: str = Field('"', max_length=1)
    null_values: Texts = ("",)
    column_names: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _names_columns(self) -> Csv:
        if self.header == bool(self.column_names):
            raise ValueError("csv: give column_names if, and only if, header is false")
        return self


class LandedFile(_Model):
    """A kind of file that lands.

    path: globs below the data folder (or below conf/sources for folder: conf). landed_on: a regular expression on
    the relative path whose first group is the landing day (ISO); without it a file counts as landed from the start.
    realised: raw columns that only time fills, such as what was paid in total; see Source.
    required: a night without any such file fails; daily: so does a night without a file of its own day.
    """

    path: Texts = Field(min_length=1)
    folder: Literal["data", "conf"] = "data"
    landed_on: str | None = None
    required: bool = True
    daily: bool = False
    realised: Texts = ()
    csv: Csv = Csv()

    @model_validator(mode="after")
    def _day_can_be_read(self) -> LandedFile:
        if self.landed_on is None:
            if self.daily:
                raise ValueError("daily files need landed_on, which reads the day from the path")
        elif re.compile(self.landed_on).groups != 1:
            raise ValueError("landed_on needs exactly one group, around the ISO date")
        return self

    def folder_in(self, data_folder: Path) -> Path:
        """The folder that the globs start from."""
        return SOURCES if self.folder == "conf" else data_folder

    def landed_in(self, data_folder: Path) -> dict[str, Path]:
        """The files of this kind that are there, by path relative to their folder; content is not looked at."""
        folder = self.folder_in(data_folder)
        return {str(path.relative_to(folder)): path for glob in self.path for path in folder.glob(glob) if path.is_file()}

    def day(self, relative_path: str) -> date | None:
        """The landing day in a file's path; None where files of this kind carry no day.

        Raises SourceError where the path should carry a day and does not.
        """
        if self.landed_on is None:
            return None
        found = re.search(self.landed_on, relative_path)
        if not found:
            raise SourceError(f"no landing day in {relative_path} by the pattern {self.landed_on}")
        try:
            return date.fromisoformat(found.group(1))
        except ValueError:
            raise SourceError(f"no landing day in {relative_path}: {found.group(1)}, which {self.landed_on} finds, is no ISO date") from None


class Of(_Model):
    """An argument that is the value of another column of the same mapping: after its function, if that stands above."""

    of: str


class ColumnMapping(_Model):
    """Where one canonical column comes from: a raw column, or a constant.

    The raw text is trimmed; empty becomes default (null without one); one with a NUL, or an id of more than MAX_ID
    characters, breaks the rule ``text:<column>``. codes translate text exactly, an unlisted code breaks the rule
    ``code:<column>``; a code may stand for null. Then it is parsed (parse: what the table's type
    says, unless given; formats: Spark patterns, tried in order), brought to the canonical unit (percent to fraction,
    bps, cents, thousands, millions, years to months), and last given to a named column function with arguments. required: an
    empty value breaks the rule ``required:<column>``; for columns of the table its schema already says so.
    """

    column: str | None = None
    parse: Parse | None = None
    format: Texts = ()
    unit: Unit = "one"
    codes: dict[str, Scalar | None] | None = None
    default: Scalar | None = None
    constant: Scalar | None = None
    required: bool = False
    function: str | None = None
    arguments: dict[str, Of | Scalar] = {}

    @model_validator(mode="after")
    def _has_one_origin(self) -> ColumnMapping:
        if self.column is not None and self.constant is not None:
            raise ValueError("a column comes from a raw column or is a constant, not both")
        if self.column is None and self.constant is None and self.function is None:
            raise ValueError("one of column, constant or function is needed")
        if self.arguments and self.function is None:
            raise ValueError("arguments without a function")
        return self


def _shorthand(value: object) -> object:
    return {"column": value} if isinstance(value, str) else value


class RowFilter(_Model):
    """Which rows a mapping takes, by the raw text of one column: is one of these, or is none of these."""

    column: str
    is_in: Texts = ()
    is_not_in: Texts = ()

    @model_validator(mode="after")
    def _has_one_list(self) -> RowFilter:
        if bool(self.is_in) == bool(self.is_not_in):
            raise ValueError("give is_in or is_not_in")
        return self


def _same_name(value: object) -> object:
    return {value: value} if isinstance(value, str) else value


class Join(_Model):
    """A left join: the row of another kind of file that a row belongs to.

    Its columns are then called ``<file>.<column>``, also by a later join. on: columns of the row to columns of the file,
    or one name that both have, compared as trimmed text. where: which rows of the file are looked at, by its own names.
    file: one that carries no landing day, so that all of it is known from the start; of its deliveries the last that has
    a key counts. A key that stands twice there breaks the rule ``ambiguous:<file>``. Without a match the columns are empty.
    """

    file: str
    on: Annotated[dict[str, str], BeforeValidator(_same_name)] = Field(min_length=1)
    where: tuple[RowFilter, ...] = ()


class TableMapping(_Model):
    """How rows of one kind of file become rows of one silver table.

    join: other files whose rows stand beside, each once. columns: canonical column to its mapping; nullable columns that
    are not named stay null. function: a named table function that takes the mapped rows and returns rows of the table,
    for what columns cannot say (its input columns may then be any); settings of it stand in arguments. known_from not
    mapped is the landing day of the file.
    """

    from_file: str = Field(alias="from")
    join: tuple[Join, ...] = ()
    where: tuple[RowFilter, ...] = ()
    columns: dict[str, Annotated[ColumnMapping, BeforeValidator(_shorthand)]]
    function: str | None = None
    arguments: dict[str, Scalar] = {}

    def origin(self, column: str) -> tuple[str, str]:
        """The kind of file that a name in this mapping speaks of, and the raw column there."""
        file, _, name = column.partition(".")
        return (file, name) if file in {join.file for join in self.join} else (self.from_file, column)

    def read_columns(self) -> dict[tuple[str, str], tuple[str | int, ...]]:
        """The raw columns that this mapping reads, by kind of file and name, each with the key that first asks for it."""
        wanted: dict[tuple[str, str], tuple[str | int, ...]] = {}
        for number, join in enumerate(self.join):
            for own, other in join.on.items():
                wanted.setdefault(self.origin(own), ("join", number, "on"))
                wanted.setdefault((join.file, other), ("join", number, "on"))
            for position, condition in enumerate(join.where):
                wanted.setdefault((join.file, condition.column), ("join", number, "where", position))
        for position, condition in enumerate(self.where):
            wanted.setdefault(self.origin(condition.column), ("where", position))
        for column, spec in self.columns.items():
            if spec.column:
                wanted.setdefault(self.origin(spec.column), ("columns", column))
        return wanted


class Orders(_Model):
    """Investors' orders from files: raw columns of the order's fields, all loaded as text and judged later."""

    from_file: str = Field(alias="from")
    columns: dict[str, str]

    @model_validator(mode="after")
    def _names_fields(self) -> Orders:
        unknown = sorted(set(self.columns) - set(ORDER_COLUMNS))
        missing = sorted({"order_id", "investor_id", "amount", "target_return"} - set(self.columns))
        if unknown or missing:
            raise ValueError(f"orders: unknown fields {unknown}, missing fields {missing}; fields are {ORDER_COLUMNS}")
        return self


class Drawn(_Model):
    """How a simulated market is drawn for its evaluation, over the settings of ``simulation`` and ``training``.

    reference_times: so many times the borrowers, others than those, teach what is attainable (models.attainable).
    """

    borrowers: int = Field(ge=2)
    history_months: int = Field(ge=1)
    training_cohorts: int = Field(ge=1)
    cohort_step_months: int = Field(ge=1)
    reference_times: int = Field(ge=1)


class _Evaluation(_Model):
    """known_on: the last day whose knowledge tells outcomes; null: the market's first night. single_features: features
    that are also held against the scores each by itself; more means riskier."""

    known_on: date | None = None
    single_features: tuple[str, ...] = ()


class CrossValidation(_Evaluation):
    """Every row is tested by a model that did not see its party: folds by outcome and identity group.

    repeats: for few rows, whose figures hang on how they fall into folds: so many divisions, seeds seed, seed + 1, …
    """

    protocol: Literal["cross_validation"]
    folds: int = Field(5, ge=2)
    repeats: int = Field(1, ge=1)
    seed: int = 0
    drawn: None = None


class OutOfTime(_Evaluation):
    """A model trained on what was knowable on a past day, tested on rows of later days, these included, that it has not seen.

    also_within_months: the same scores are also held against defaults within so many months of the as-of date, fewer than
    the source's horizon. walk_forward_from: the first day of a second test, under FULL=1, and of the backtest: from then until
    tested_until the model is trained anew every three months (of companies every year), and tested on the rows of these.
    drawn: for a simulated market, which is tested on one day.
    """

    protocol: Literal["out_of_time"]
    trained_on: date
    tested_from: date
    tested_until: date
    also_within_months: tuple[Annotated[int, Field(ge=1)], ...] = ()
    walk_forward_from: date | None = None
    drawn: Drawn | None = None

    @model_validator(mode="after")
    def _tests_what_came_later(self) -> OutOfTime:
        if not self.trained_on <= self.tested_from <= self.tested_until:
            raise ValueError("evaluation: trained_on, tested_from, tested_until must follow each other: what was known then is no test")
        if self.walk_forward_from and self.walk_forward_from > self.tested_until:
            raise ValueError("evaluation: walk_forward_from lies after tested_until: nothing would be tested")
        if self.drawn and self.tested_from != self.tested_until:
            raise ValueError("evaluation: with drawn, tested_from and tested_until are the same day")
        return self


class Source(_Model):
    """One lending source.

    outcome: default_within_horizon (label: a default within horizon_months) or default_ever (an eventual default,
    with censoring). default_days: days past due that are a default; null where only a charge-off is one, as for a source
    that tells of no other outcome than its own. indeterminate_days: days past due, fewer than a default's, that leave someone
    without a default neither good nor bad for the sub-models; null: nobody. blocks: the feature blocks that its files can fill; none for a source of companies.
    account_month_lag_days: how many days after a month's end its account months are known; a month counts from then on,
    for everyone. Realised columns of a file tell of nothing but a course: the tables loan, repayment and company alone may read
    them, and no term of a listing. evaluation: how scores are held against outcomes. settings override conf/mosaic.yaml.
    """

    name: str
    title: str
    currency: str = Field(pattern="^[A-Z]{3}$")
    timezone: str = "UTC"
    horizon_months: int = Field(ge=1)
    outcome: Literal["default_within_horizon", "default_ever"]
    default_days: int | None = Field(90, ge=1)
    indeterminate_days: int | None = Field(None, ge=1)
    blocks: tuple[Block, ...] = ()
    account_month_lag_days: int = Field(0, ge=0, le=28)
    files: dict[str, LandedFile] = Field(min_length=1)
    tables: dict[str, tuple[TableMapping, ...]] = Field(min_length=1)
    orders: Orders | None = None
    evaluation: Annotated[CrossValidation | OutOfTime, Field(discriminator="protocol")] = CrossValidation(protocol="cross_validation")
    settings: dict[str, object] = {}

    _path: Path = PrivateAttr(default=Path("<unread>"))
    _lines: dict[tuple[str | int, ...], int] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _is_consistent(self) -> Source:
        if "landed_file" in self.files:
            raise ValueError("files.landed_file: this name is kept for the table of landed files")
        mappable = [table.name for table in SILVER if table.name not in _UNMAPPED]
        for name, mappings in self.tables.items():
            if name not in mappable:
                raise ValueError(f"tables.{name}: no such table; a source can fill {mappable}")
            for number, mapping in enumerate(mappings):
                self._check(f"tables.{name}.{number}", name, mapping)
        if self.indeterminate_days and self.indeterminate_days >= (self.default_days or 0):
            raise ValueError(f"indeterminate_days: {self.indeterminate_days} is not below default_days, {self.default_days}: these are defaults")
        if not self.blocks and "borrower" in self.tables:
            raise ValueError("blocks: a source of borrowers offers at least one feature block")
        if self.orders and self.orders.from_file not in self.files:
            raise ValueError(f"orders.from: no file {self.orders.from_file}; files are {list(self.files)}")
        if isinstance(self.evaluation, OutOfTime) and any(months >= self.horizon_months for months in self.evaluation.also_within_months):
            raise ValueError(f"evaluation.also_within_months: outcomes look {self.horizon_months} months ahead; name fewer")
        return self

    def _check(self, place: str, table_name: str, mapping: TableMapping) -> None:
        table = TABLES[table_name]
        if mapping.from_file not in self.files:
            raise ValueError(f"{place}.from: no file {mapping.from_file}; files are {list(self.files)}")
        self._check_joins(place, mapping)
        for (file, column), key in mapping.read_columns().items():
            if table_name not in _COURSE and column in self.files[file].realised:
                raise ValueError(f"{place}.{'.'.join(map(str, key))}: {_LOOKS_AHEAD.format(column)}")
        for column, spec in mapping.columns.items():
            if spec.column and column in _TERMS:
                file, raw_column = mapping.origin(spec.column)
                if raw_column in self.files[file].realised:
                    raise ValueError(f"{place}.columns.{column}: {_LOOKS_AHEAD.format(raw_column)}")
            if column in ("source_file", "row_number"):
                raise ValueError(f"{place}.columns.{column}: ingest fills this column by itself")
            if mapping.function is None and column not in table.columns:
                raise ValueError(f"{place}.columns.{column}: {table_name} has no such column; it has {list(table.columns)}")
            for argument in spec.arguments.values():
                if isinstance(argument, Of) and argument.of not in {*mapping.columns, *LANDED}:
                    raise ValueError(f"{place}.columns.{column}.arguments: the mapping has no column {argument.of}")
        if mapping.function is not None:
            return
        filled = {*FILLED, *(["known_from"] if self.files[mapping.from_file].landed_on else [])}
        missing = [column for column in table.required if column not in {*mapping.columns, *filled}]
        if missing:
            raise ValueError(f"{place}.columns: {table_name} needs {missing}, which nothing fills")

    def _check_joins(self, place: str, mapping: TableMapping) -> None:
        seen = [mapping.from_file]
        for number, join in enumerate(mapping.join):
            here = f"{place}.join.{number}"
            if join.file not in self.files:
                raise ValueError(f"{here}.file: no file {join.file}; files are {list(self.files)}")
            if join.file in seen:
                raise ValueError(f"{here}.file: {join.file} is read already; each file stands once in a mapping")
            if self.files[join.file].landed_on:
                raise ValueError(f"{here}.file: {join.file} lands day by day; only a file without landed_on can be joined")
            if later := sorted({mapping.origin(own)[0] for own in join.on} - set(seen)):
                raise ValueError(f"{here}.on: {', '.join(later)} is not joined yet; a join reads what stands above it")
            seen.append(join.file)

    def of_product(self, product: Product) -> Source:
        """What a product's night takes in: its tables, and of the files all but those that only the other product's tables read.

        Raises SourceError where there is no such table.
        """
        tables = {name: mappings for name, mappings in self.tables.items() if _product_of(name) == product}
        if not tables:
            raise SourceError(f"{self.line('tables')}: no table of the product {product}; there are {list(self.tables)}")
        orders = self.orders if product == "lending" else None
        others = _files_of(mappings for name, mappings in self.tables.items() if name not in tables)
        if self.orders and not orders:
            others.add(self.orders.from_file)
        files = {name: file for name, file in self.files.items() if name not in others - _files_of(tables.values())}
        return self.model_copy(update={"tables": tables, "files": files, "orders": orders})

    def line(self, *place: str | int) -> str:
        """``file:line`` of a key, such as ``line("tables", "loan", 0, "columns", "amount")``, or of its nearest parent."""
        while place and place not in self._lines:
            place = place[:-1]
        return f"{self._path}:{self._lines.get(place, 1)}"

    def raw_columns(self, file: str) -> dict[str, str]:
        """The raw columns that a kind of file must have, each with the ``file:line`` of the mapping that asks for it."""
        wanted: dict[str, str] = {}
        for table, mappings in self.tables.items():
            for number, mapping in enumerate(mappings):
                for (kind, column), place in mapping.read_columns().items():
                    if kind == file:
                        wanted.setdefault(column, self.line("tables", table, number, *place))
        if self.orders and self.orders.from_file == file:
            for field, column in self.orders.columns.items():
                wanted.setdefault(column, self.line("orders", "columns", field))
        return wanted

    def parse_of(self, table: str, column: str, mapping: ColumnMapping) -> Parse:
        """How a column is parsed: as the mapping says, else by the silver table's type, else as text."""
        return mapping.parse or _PARSE_OF_TYPE[TABLES[table].types.get(column, "STRING")]


def _product_of(table: str) -> Product:
    return "company" if TABLES[table] in OF_COMPANIES else "lending"


def _files_of(tables: Iterable[tuple[TableMapping, ...]]) -> set[str]:
    """The kinds of file that some tables' mappings read."""
    return {file for mappings in tables for mapping in mappings for file in (mapping.from_file, *(join.file for join in mapping.join))}


def products_of(settings: Settings) -> tuple[Product, ...]:
    """What a market publishes, its own product first: beside lending scores of companies too, where its source tells of any."""
    tells = any(_product_of(name) == "company" for name in load_source(settings.source).tables)
    is_drawn = settings.source != "simulated" or settings.simulation.companies > 0
    return ("lending", "company") if settings.product == "lending" and tells and is_drawn else (settings.product,)


def require_note(source: Source, note_amount: Mapping[str, int]) -> None:
    """Raise SourceError where no note is set in the source's currency: its first order would find that out at night."""
    if source.currency not in note_amount:
        raise SourceError(
            f"{source.line('currency')}: no note in {source.currency}: add the smallest part of a loan that an order may take, "
            f"as settings: {{allocation: {{note_amount: {{{source.currency}: 25}}}}}}"
        )


class _MappingLoader(yaml.SafeLoader):
    """YAML in which a key is its text, and only true and false are truth values: codes such as 01, yes and no stay."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, object]:
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}


_MappingLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|false)$"), ["t", "f"])


def load_source(name: str, folder: Path = SOURCES) -> Source:
    """The source called name.

    Raises SourceError for an unknown source and for anything wrong in its mapping, naming file, line and key.
    """
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in folder.glob("*.yaml"))
        raise SourceError(f"no source {name}: {path} does not exist; known sources are {known}")
    text = path.read_text(encoding="utf-8")
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    try:
        lines = _lines(yaml.compose(text, Loader=_MappingLoader))
        source = Source.model_validate(yaml.load(text, Loader=_MappingLoader))
    except yaml.YAMLError as error:
        raise SourceError(f"{shown}: not YAML: {error}") from error
    except ValidationError as error:
        raise SourceError("\n".join(_located(shown, lines, fault) for fault in error.errors())) from error
    if source.name != name:
        raise SourceError(f"{shown}:{lines.get(('name',), 1)}: name is {source.name}, the file says {name}")
    source._path, source._lines = shown, lines
    return source


def _lines(node: yaml.Node | None, place: tuple[str | int, ...] = ()) -> dict[tuple[str | int, ...], int]:
    """The line of every key and list item; an aliased part stands at the line of its anchor.

    Raises yaml.MarkedYAMLError where a key stands twice: YAML would silently keep the last.
    """
    found: dict[tuple[str | int, ...], int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if (*place, key.value) in found:
                raise yaml.MarkedYAMLError(problem=f"key {key.value} stands twice", problem_mark=key.start_mark)
            found[(*place, key.value)] = key.start_mark.line + 1
            found |= _lines(value, (*place, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            found[(*place, number)] = value.start_mark.line + 1
            found |= _lines(value, (*place, number))
    return found


def _located(path: Path, lines: dict[tuple[str | int, ...], int], fault: dict) -> str:
    """One fault in words; a fault of the whole mapping begins with the place it speaks of."""
    message = fault["msg"].removeprefix("Value error, ")
    place = tuple(fault["loc"])
    if not place:
        named = message.split(":")[0]
        place = tuple(int(part) if part.isdigit() else part for part in named.split("."))
    shown = ".".join(str(part) for part in place)
    while place and place not in lines:
        place = place[:-1]
    return f"{path}:{lines.get(place, 1)}: " + (message if message.startswith(shown) else f"{shown}: {message}")


if __name__ == "__main__":
    # The chosen market's settings and mapping, read before anything starts; what is wrong with them is one line each.
    try:
        settings = load_settings()
        require_note(load_source(settings.source), settings.allocation.note_amount)
    except (WrongSetting, SourceError) as problem:
        sys.exit("\n".join(f"make: {line}" for line in str(problem).splitlines()))
