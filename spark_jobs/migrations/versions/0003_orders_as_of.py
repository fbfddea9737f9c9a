"""Orders as they were known at the end of a day, so that a night that is run again finds what it found."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """When an order's file landed, what each change of a status replaced and when, and one place that reads both."""
    op.execute(
        """
        ALTER TABLE intake.investor_order ADD landed_at timestamptz;
        COMMENT ON COLUMN intake.investor_order.landed_at IS
            'When the day began on which the order''s file landed; null for a front end''s order, and for a file without a day.';

        CREATE TABLE intake.order_status_change (
            order_id text NOT NULL, changed_at timestamptz NOT NULL DEFAULT clock_timestamp(), status_before text,
            PRIMARY KEY (order_id, changed_at)
        );
        COMMENT ON TABLE intake.order_status_change IS 'What each change of an order''s status replaced.';

        CREATE FUNCTION intake.log_status() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
            SET search_path = intake, pg_temp AS $$
        BEGIN
            INSERT INTO intake.order_status_change (order_id, status_before) VALUES (OLD.order_id, OLD.status);
            RETURN NULL;
        END $$;
        CREATE TRIGGER status_is_logged AFTER UPDATE OF status ON intake.investor_order FOR EACH ROW
            WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION intake.log_status();

        CREATE FUNCTION intake.orders_as_of(moment timestamptz) RETURNS TABLE (
            order_id text, investor_id text, amount text, currency text, target_return text, placed_at timestamptz,
            status text, known_at timestamptz, status_changed_at timestamptz, source_file text
        ) LANGUAGE sql STABLE AS $$
            SELECT o.order_id, o.investor_id, o.amount, o.currency, o.target_return, o.placed_at,
                CASE WHEN later.order_id IS NULL THEN o.status ELSE later.status_before END,
                greatest(o.placed_at, o.landed_at), earlier.changed_at, o.source_file
            FROM intake.investor_order o
            LEFT JOIN LATERAL (
                SELECT c.order_id, c.status_before FROM intake.order_status_change c
                WHERE c.order_id = o.order_id AND c.changed_at >= moment ORDER BY c.changed_at LIMIT 1
            ) later ON true
            LEFT JOIN LATERAL (
                SELECT max(c.changed_at) AS changed_at FROM intake.order_status_change c
                WHERE c.order_id = o.order_id AND c.changed_at < moment
            ) earlier ON true
            WHERE coalesce(greatest(o.placed_at, o.landed_at), '-infinity') < moment
        $$;
        COMMENT ON FUNCTION intake.orders_as_of IS
            'Orders as they were known just before a moment. known_at: when an order could first be known; '
            'status_changed_at: its last change of status before the moment, null for none.';

        GRANT SELECT ON intake.order_status_change TO mosaic_publisher, mosaic_intake;
        """
    )


def downgrade() -> None:
    """Back to orders as they are now."""
    op.execute(
        """
        DROP FUNCTION intake.orders_as_of;
        DROP TRIGGER status_is_logged ON intake.investor_order;
        DROP FUNCTION intake.log_status;
        DROP TABLE intake.order_status_change;
        ALTER TABLE intake.investor_order DROP COLUMN landed_at;
        """
    )
