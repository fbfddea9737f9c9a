"""The words of the reason codes, for those who read scores by SQL."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One row per code; set-up fills it from the catalogue, conf.reasons."""
    op.execute(
        """
        CREATE TABLE publication.reason_code (code text PRIMARY KEY, en text NOT NULL, ko text NOT NULL);
        COMMENT ON TABLE publication.reason_code IS
            'What a code in borrower_score.reason_codes says, in English and in Korean. Codes are added, never renamed.';
        CREATE VIEW publication.latest_reason_code AS SELECT code, en, ko FROM publication.reason_code;
        GRANT SELECT ON publication.latest_reason_code TO mosaic_reader;
        """
    )


def downgrade() -> None:
    """Codes without words."""
    op.execute("DROP VIEW publication.latest_reason_code; DROP TABLE publication.reason_code")
