"""Reading and writing Delta tables; the only module that knows where they lie."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from conf.settings import Settings
from conf.tables import Table
from expectations.rules import row_rules

# Nights and models are pinned to versions: Delta would forget how to read them after 30 days.
_KEPT_VERSIONS = {"delta.logRetentionDuration": "interval 3650 days"}


class MissingTable(LookupError):
    """A table is read before the job that owns it has written it."""


class WrongColumns(ValueError):
    """A frame does not have the columns that its table declares."""


@dataclass(frozen=True)
class Lake:
    """The Delta tables of one market."""

    spark: SparkSession
    settings: Settings

    def path(self, table: Table) -> str:
        """Where the table lies."""
        return f"{self.settings.lake_url}/{table.layer}/{table.name}"

    def exists(self, table: Table) -> bool:
        """Whether the table has been made."""
        return DeltaTable.isDeltaTable(self.spark, self.path(table))

    def create(self, table: Table) -> None:
        """Make the table with its schema, partitioning and CHECK constraints, unless it is there."""
        if self.exists(table):
            return
        partitioning = f"PARTITIONED BY ({table.partition_by})" if table.partition_by else ""
        # Delta takes a null for a violation; a rule that cannot be told holds.
        checks = {f"delta.constraints.{rule.name}": f"coalesce({rule.sql}, true)" for rule in row_rules(table)}
        properties = ", ".join(f"'{name}' = \"{value}\"" for name, value in (checks | _KEPT_VERSIONS).items())
        self.spark.sql(
            f"CREATE TABLE IF NOT EXISTS delta.`{self.path(table)}` ({table.ddl}) USING delta {partitioning} "
            f"TBLPROPERTIES ({properties})"
        )

    def drop_changed_checks(self, table: Table) -> None:
        """Take from a table the CHECK constraints that it was made with and that its rules no longer say; the gate stays."""
        if not self.exists(table):
            return
        path, now = self.path(table), {rule.name.lower(): f"coalesce({rule.sql}, true)" for rule in row_rules(table)}
        properties = DeltaTable.forPath(self.spark, path).detail().first()["properties"]
        for key, check in properties.items():
            name = key.removeprefix("delta.constraints.")
            if name != key and now.get(name) != check:
                self.spark.sql(f"ALTER TABLE delta.`{path}` DROP CONSTRAINT {name}")

    def read(self, table: Table, version: int | None = None) -> DataFrame:
        """The table, as it is now or at a version.

        Raises MissingTable where it has never been written.
        """
        if not self.exists(table):
            raise MissingTable(f"{table.layer} table {table.name} does not exist at {self.path(table)}: run the job {table.owner} first")
        reader = self.spark.read.format("delta")
        return (reader if version is None else reader.option("versionAsOf", version)).load(self.path(table))

    def read_as_of(self, table: Table, as_of_date: date, version: int | None = None) -> DataFrame:
        """The rows of one as-of date of a gold table."""
        return self.read(table, version).where(f"as_of_date = DATE'{as_of_date:%Y-%m-%d}'")

    def version(self, table: Table) -> int:
        """The current Delta version."""
        return DeltaTable.forPath(self.spark, self.path(table)).history(1).first()["version"]

    def restore(self, table: Table, version: int) -> None:
        """Bring the table back to an earlier version, as one more commit."""
        DeltaTable.forPath(self.spark, self.path(table)).restoreToVersion(version)

    def conform(self, table: Table, frame: DataFrame) -> DataFrame:
        """The frame with exactly the table's columns, in order and of the declared types.

        Raises WrongColumns, listing what is missing and what is there.
        """
        missing = [column for column in table.columns if column not in frame.columns]
        if missing:
            raise WrongColumns(f"{table.name}: missing columns {missing}; the frame has {frame.columns}")
        schema = StructType.fromDDL(table.ddl)
        return frame.select(*(frame[field.name].cast(field.dataType).alias(field.name) for field in schema))

    def append_new(self, table: Table, frame: DataFrame) -> None:
        """Append the rows whose key is not in the table yet; rows there stay as they are, so a rerun changes nothing.

        The frame holds no key twice.
        """
        self.create(table)
        same_key = " AND ".join(f"old.{column} <=> new.{column}" for column in table.key)
        target = DeltaTable.forPath(self.spark, self.path(table)).alias("old")
        target.merge(self.conform(table, frame).alias("new"), same_key).whenNotMatchedInsertAll().execute()

    def append(self, table: Table, frame: DataFrame) -> None:
        """Append rows that the caller knows to be new; a killed append leaves nothing behind."""
        self.create(table)
        self.conform(table, frame).write.format("delta").mode("append").save(self.path(table))

    def replace(self, table: Table, frame: DataFrame, *values: object) -> None:
        """Replace the partitions with the given values of the table's partition column, in one commit.

        Raises Delta's error where a row of the frame lies outside these partitions.
        """
        self.replace_where(table, frame, f"{table.partition_by} IN ({', '.join(repr(str(value)) for value in values)})")

    def replace_where(self, table: Table, frame: DataFrame, condition: str) -> None:
        """Replace the rows that a SQL condition selects, in one commit.

        Raises Delta's error where a row of the frame does not satisfy the condition.
        """
        self.create(table)
        (
            self.conform(table, frame).write.format("delta").mode("overwrite")
            .option("replaceWhere", condition)
            # A column that was declared after the table was made is added, null in the rows that were there.
            .option("mergeSchema", "true")
            .save(self.path(table))
        )
