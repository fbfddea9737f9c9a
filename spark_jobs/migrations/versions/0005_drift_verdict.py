"""What a night's drift says, where Airflow reads it without a JVM."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One verdict per batch; whether a training was asked for is written by who asks."""
    op.execute(
        """
        CREATE TABLE ops.drift_verdict (
            batch_id text PRIMARY KEY, as_of_date date NOT NULL, model_version text NOT NULL, trained_on date NOT NULL,
            asks_training boolean NOT NULL, message text NOT NULL, training_asked boolean NOT NULL DEFAULT false
        );
        COMMENT ON TABLE ops.drift_verdict IS
            'One row per night: whether its drift passes the limits (asks_training), held against the model that scored it, '
            'and whether a training was started for it (training_asked).';
        GRANT SELECT, INSERT, UPDATE ON ops.drift_verdict TO mosaic_publisher;
        """
    )


def downgrade() -> None:
    """Drift stays in the lake only."""
    op.execute("DROP TABLE ops.drift_verdict")
