"""How many times the listings' hazard of default a night's scenarios see."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

CURRENT = "(SELECT batch_id FROM publication.current_batch WHERE product = 'lending')"


def upgrade() -> None:
    """One column more, null in the batches from before."""
    op.execute(
        f"""
        ALTER TABLE publication.risk_group_cap ADD COLUMN default_level double precision;
        CREATE OR REPLACE VIEW publication.latest_risk_group_cap AS SELECT * FROM publication.risk_group_cap WHERE batch_id = {CURRENT};
        """
    )


def downgrade() -> None:
    """Caps without it; a view cannot lose a column, so it is made anew."""
    op.execute(
        f"""
        DROP VIEW publication.latest_risk_group_cap;
        ALTER TABLE publication.risk_group_cap DROP COLUMN default_level;
        CREATE VIEW publication.latest_risk_group_cap AS SELECT * FROM publication.risk_group_cap WHERE batch_id = {CURRENT};
        GRANT SELECT ON publication.latest_risk_group_cap TO mosaic_reader;
        """
    )
