"""A front end may change an order's status, and nothing else of it."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The right, and a check at once: nobody is there to read a refusal of a change."""
    op.execute(
        """
        GRANT UPDATE (status) ON intake.investor_order TO mosaic_intake;

        CREATE FUNCTION intake.check_status() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'unknown status %: an order is open, filled or cancelled', NEW.status;
        END $$;
        CREATE TRIGGER status_is_known BEFORE UPDATE OF status ON intake.investor_order FOR EACH ROW
            WHEN (NEW.status IS NULL OR NEW.status NOT IN ('open', 'filled', 'cancelled'))
            EXECUTE FUNCTION intake.check_status();
        """
    )


def downgrade() -> None:
    """Orders stay as they were placed."""
    op.execute(
        """
        DROP TRIGGER status_is_known ON intake.investor_order;
        DROP FUNCTION intake.check_status;
        REVOKE UPDATE (status) ON intake.investor_order FROM mosaic_intake;
        """
    )
