"""An order has an id: an empty one cannot be told, refused or found again."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """New orders only: rows that are there stay as they are, and no night takes one without an id."""
    op.execute(
        """
        ALTER TABLE intake.investor_order
            ADD CONSTRAINT order_has_an_id CHECK (length(order_id) BETWEEN 1 AND 200) NOT VALID;
        """
    )


def downgrade() -> None:
    """Back to ids of any length."""
    op.execute("ALTER TABLE intake.investor_order DROP CONSTRAINT order_has_an_id")
