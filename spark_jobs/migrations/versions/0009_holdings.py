"""What each order held before the night, and what it owns with it."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

CURRENT = "(SELECT batch_id FROM publication.current_batch WHERE product = 'lending')"


def upgrade() -> None:
    """Four columns more, null in the batches from before."""
    op.execute(
        f"""
        ALTER TABLE publication.allocation_summary ADD COLUMN held_amount numeric(18,2),
            ADD COLUMN held_loan_count integer, ADD COLUMN lost_amount numeric(18,2), ADD COLUMN owned_net_return double precision;
        CREATE OR REPLACE VIEW publication.latest_allocation_summary AS
            SELECT * FROM publication.allocation_summary WHERE batch_id = {CURRENT};
        """
    )


def downgrade() -> None:
    """Summaries without them; a view cannot lose a column, so it is made anew."""
    op.execute(
        f"""
        DROP VIEW publication.latest_allocation_summary;
        ALTER TABLE publication.allocation_summary DROP COLUMN held_amount, DROP COLUMN held_loan_count,
            DROP COLUMN lost_amount, DROP COLUMN owned_net_return;
        CREATE VIEW publication.latest_allocation_summary AS
            SELECT * FROM publication.allocation_summary WHERE batch_id = {CURRENT};
        GRANT SELECT ON publication.latest_allocation_summary TO mosaic_reader;
        """
    )
