"""The frontier of a night and its portfolios; how far whole notes lie from each order's optimum."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# name: (columns, primary key without batch_id)
PUBLISHED = {
    "frontier": (
        """currency text NOT NULL, point integer NOT NULL, as_of_date date NOT NULL, amount numeric(18,2) NOT NULL,
        target_return double precision NOT NULL, note_amount numeric(18,2) NOT NULL,
        identity_group_cap double precision NOT NULL, allocated_amount numeric(18,2) NOT NULL,
        expected_net_return double precision NOT NULL, expected_loss double precision NOT NULL,
        cvar95 double precision NOT NULL, loan_count integer NOT NULL, status text NOT NULL, binding_constraint text,
        message text NOT NULL, batch_id text NOT NULL""",
        "currency, point",
    ),
    "frontier_holding": (
        """currency text NOT NULL, point integer NOT NULL, loan_id text NOT NULL, as_of_date date NOT NULL,
        borrower_id text NOT NULL, identity_group_id text NOT NULL, risk_group integer NOT NULL,
        amount numeric(18,2) NOT NULL, expected_net_return double precision NOT NULL,
        expected_loss double precision NOT NULL, batch_id text NOT NULL""",
        "currency, point, loan_id",
    ),
}

CURRENT = "(SELECT batch_id FROM publication.current_batch WHERE product = 'lending')"


def upgrade() -> None:
    """Two tables and one column more, without rows and null in the batches from before."""
    for table, (columns, key) in PUBLISHED.items():
        op.execute(
            f"""
            CREATE TABLE publication.{table} ({columns}, PRIMARY KEY ({key}, batch_id)) PARTITION BY LIST (batch_id);
            CREATE VIEW publication.latest_{table} AS SELECT * FROM publication.{table} WHERE batch_id = {CURRENT};
            GRANT SELECT ON publication.latest_{table} TO mosaic_reader;
            ALTER TABLE publication.{table} OWNER TO mosaic_publisher;
            GRANT SELECT ON publication.{table} TO mosaic_owner;
            """
        )
    op.execute(
        f"""
        ALTER TABLE publication.allocation_summary ADD COLUMN rounding_gap double precision;
        CREATE OR REPLACE VIEW publication.latest_allocation_summary AS
            SELECT * FROM publication.allocation_summary WHERE batch_id = {CURRENT};
        """
    )


def downgrade() -> None:
    """Without them; a view cannot lose a column, so it is made anew."""
    for table in PUBLISHED:
        op.execute(f"DROP VIEW publication.latest_{table}; DROP TABLE publication.{table}")
    op.execute(
        f"""
        DROP VIEW publication.latest_allocation_summary;
        ALTER TABLE publication.allocation_summary DROP COLUMN rounding_gap;
        CREATE VIEW publication.latest_allocation_summary AS
            SELECT * FROM publication.allocation_summary WHERE batch_id = {CURRENT};
        GRANT SELECT ON publication.latest_allocation_summary TO mosaic_reader;
        """
    )
