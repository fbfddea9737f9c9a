"""Scores of companies, a product of its own with its own pointer."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# What downstream systems read of a score; the hazard before calibration stays inside.
COLUMNS = (
    "company_id, as_of_date, prob_distress_1y, prob_distress_2y, prob_distress_3y, grade, altman_z, reason_codes, filing_id, "
    "period_end, model_version, batch_id"
)


def upgrade() -> None:
    """The table, partitioned by batch, and the view that follows the company product's pointer."""
    op.execute(
        f"""
        CREATE TABLE publication.company_score (
            company_id text NOT NULL, as_of_date date NOT NULL, prob_distress_1y double precision NOT NULL,
            prob_distress_2y double precision NOT NULL, prob_distress_3y double precision NOT NULL, grade text NOT NULL,
            altman_z double precision, reason_codes text[] NOT NULL, raw_hazard double precision NOT NULL, filing_id text NOT NULL,
            period_end date NOT NULL, model_version text NOT NULL, batch_id text NOT NULL, PRIMARY KEY (company_id, batch_id)
        ) PARTITION BY LIST (batch_id);
        CREATE VIEW publication.latest_company_score AS
            SELECT {COLUMNS},
                (SELECT data_contract_version FROM publication.current_batch WHERE product = 'company') AS data_contract_version
            FROM publication.company_score
            WHERE batch_id = (SELECT batch_id FROM publication.current_batch WHERE product = 'company');
        GRANT SELECT ON publication.latest_company_score TO mosaic_reader;
        ALTER TABLE publication.company_score OWNER TO mosaic_publisher;
        GRANT SELECT ON publication.company_score TO mosaic_owner;
        """
    )


def downgrade() -> None:
    """No scores of companies."""
    op.execute(
        """
        DROP VIEW publication.latest_company_score;
        SET ROLE mosaic_publisher;
        DROP TABLE publication.company_score;
        RESET ROLE;
        """
    )
