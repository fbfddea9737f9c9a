"""How far whole notes lie from each order's optimum."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

CURRENT = "(SELECT batch_id FROM publication.current_batch WHERE product = 'lending')"


def upgrade() -> None:
    """One column more, null in the batches from before."""
    op.execute(
        f"""
        ALTER TABLE publication.allocation_summary ADD COLUMN rounding_gap double precision;
        CREATE OR REPLACE VIEW publication.latest_allocation_summary AS
            SELECT * FROM publication.allocation_summary WHERE batch_id = {CURRENT};
        """
    )


def downgrade() -> None:
    """Summaries without it; a view cannot lose a column, so it is made anew."""
    op.execute(
        f"""
        DROP VIEW publication.latest_allocation_summary;
        ALTER TABLE publication.allocation_summary DROP COLUMN rounding_gap;
        CREATE VIEW publication.latest_allocation_summary AS
            SELECT * FROM publication.allocation_summary WHERE batch_id = {CURRENT};
        GRANT SELECT ON publication.latest_allocation_summary TO mosaic_reader;
        """
    )
