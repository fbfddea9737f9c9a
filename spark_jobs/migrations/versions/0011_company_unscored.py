"""Companies without a score, with the reason."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The table, partitioned by batch and without rows in the batches from before, and its view."""
    op.execute(
        """
        CREATE TABLE publication.company_unscored (
            company_id text NOT NULL, as_of_date date NOT NULL, reason text NOT NULL, batch_id text NOT NULL,
            PRIMARY KEY (company_id, batch_id)
        ) PARTITION BY LIST (batch_id);
        CREATE VIEW publication.latest_company_unscored AS
            SELECT * FROM publication.company_unscored
            WHERE batch_id = (SELECT batch_id FROM publication.current_batch WHERE product = 'company');
        GRANT SELECT ON publication.latest_company_unscored TO mosaic_reader;
        ALTER TABLE publication.company_unscored OWNER TO mosaic_publisher;
        GRANT SELECT ON publication.company_unscored TO mosaic_owner;
        """
    )


def downgrade() -> None:
    """Companies without a score are not told."""
    op.execute(
        """
        DROP VIEW publication.latest_company_unscored;
        SET ROLE mosaic_publisher;
        DROP TABLE publication.company_unscored;
        RESET ROLE;
        """
    )
