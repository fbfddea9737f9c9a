"""Schemas publication, ops and intake; the roles' rights.

Columns stand here as they were when this migration was written; a later column is a later migration. A test holds
the result against ``conf.tables``.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# name: (columns, primary key without batch_id)
PUBLISHED = {
    "borrower_score": (
        """borrower_id text NOT NULL, as_of_date date NOT NULL, borrower_type text NOT NULL,
        prob_default double precision NOT NULL, horizon_months integer NOT NULL, score_points integer NOT NULL,
        risk_group integer NOT NULL, reason_codes text[], timeseries_log_odds double precision NOT NULL,
        behavior_log_odds double precision NOT NULL, record_log_odds double precision NOT NULL,
        raw_prob_default double precision NOT NULL, model_version text NOT NULL, batch_id text NOT NULL""",
        "borrower_id",
    ),
    "unscored": (
        "borrower_id text NOT NULL, as_of_date date NOT NULL, reason text NOT NULL, batch_id text NOT NULL",
        "borrower_id",
    ),
    "loan_valuation": (
        """loan_id text NOT NULL, as_of_date date NOT NULL, borrower_id text NOT NULL,
        identity_group_id text NOT NULL, risk_group integer NOT NULL, grade text,
        prob_default double precision NOT NULL, prob_default_lifetime double precision NOT NULL,
        loss_given_default double precision NOT NULL, interest_rate double precision NOT NULL,
        term_months integer NOT NULL, remaining_amount numeric(18,2) NOT NULL, expected_loss double precision NOT NULL,
        expected_net_return double precision NOT NULL, duration_years double precision NOT NULL,
        currency text NOT NULL, batch_id text NOT NULL""",
        "loan_id",
    ),
    "risk_group_cap": (
        """risk_group integer NOT NULL, as_of_date date NOT NULL, cap double precision NOT NULL,
        base_cap double precision NOT NULL, market_stress double precision, sensitivity double precision,
        basis text NOT NULL, is_static boolean NOT NULL, batch_id text NOT NULL""",
        "risk_group",
    ),
    "allocation": (
        """order_id text NOT NULL, loan_id text NOT NULL, as_of_date date NOT NULL, borrower_id text NOT NULL,
        identity_group_id text NOT NULL, risk_group integer NOT NULL, amount numeric(18,2) NOT NULL,
        weight double precision NOT NULL, expected_net_return double precision NOT NULL, currency text NOT NULL,
        batch_id text NOT NULL""",
        "order_id, loan_id",
    ),
    "allocation_summary": (
        """order_id text NOT NULL, as_of_date date NOT NULL, investor_id text NOT NULL, amount numeric(18,2) NOT NULL,
        allocated_amount numeric(18,2) NOT NULL, unallocated_amount numeric(18,2) NOT NULL,
        target_return double precision NOT NULL, expected_net_return double precision,
        expected_loss double precision, loan_count integer NOT NULL, status text NOT NULL, binding_constraint text,
        message text NOT NULL, currency text NOT NULL, batch_id text NOT NULL""",
        "order_id",
    ),
}

# What downstream systems read of a score; the sub-models' outputs stay inside.
SCORE_COLUMNS = (
    "borrower_id, borrower_type, as_of_date, prob_default, horizon_months, score_points, risk_group, reason_codes, "
    "model_version, batch_id"
)

# A scalar subquery prunes partitions while the statement runs; a join would read them all.
CURRENT = "(SELECT batch_id FROM publication.current_batch WHERE product = 'lending')"
CONTRACT = "(SELECT data_contract_version FROM publication.current_batch WHERE product = 'lending')"


def upgrade() -> None:
    op.execute(
        """
        CREATE SCHEMA publication;
        CREATE SCHEMA intake;
        REVOKE ALL ON SCHEMA publication, ops, intake FROM PUBLIC;

        CREATE TABLE publication.batch (
            product text NOT NULL, batch_id text NOT NULL, as_of_date date NOT NULL,
            data_contract_version text NOT NULL, manifest jsonb NOT NULL, content jsonb NOT NULL,
            attached_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (product, batch_id)
        );
        COMMENT ON TABLE publication.batch IS
            'One row per attached batch: from what it was made, and rows and hash of each of its tables.';

        CREATE TABLE publication.current_batch (
            product text PRIMARY KEY, batch_id text NOT NULL, as_of_date date NOT NULL,
            data_contract_version text NOT NULL, moved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            FOREIGN KEY (product, batch_id) REFERENCES publication.batch
        );
        COMMENT ON TABLE publication.current_batch IS 'The pointer that every latest_ view follows.';

        CREATE TABLE publication.publication_log (
            entry bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, product text NOT NULL,
            action text NOT NULL CHECK (action IN ('attach', 'publish', 'backfill', 'rollback', 'prune')),
            batch_id text NOT NULL, previous_batch_id text, who text NOT NULL, manifest jsonb, detail jsonb,
            at timestamptz NOT NULL DEFAULT clock_timestamp()
        );
        COMMENT ON TABLE publication.publication_log IS 'What was done to the publication, when, by whom, from what.';

        CREATE TABLE ops.market (source text NOT NULL, only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one));
        COMMENT ON TABLE ops.market IS 'The source whose market this database holds.';

        CREATE TABLE ops.run_manifest (
            batch_id text PRIMARY KEY, as_of_date date NOT NULL, manifest jsonb NOT NULL,
            silver_versions jsonb NOT NULL DEFAULT '{}',
            opened_at timestamptz NOT NULL DEFAULT clock_timestamp()
        );
        CREATE INDEX ON ops.run_manifest (as_of_date, opened_at);
        COMMENT ON TABLE ops.run_manifest IS
            'One row per night and what it was made from; the newest of an as-of date is the night that runs.';

        CREATE TABLE ops.ingested (
            batch_id text NOT NULL REFERENCES ops.run_manifest ON DELETE CASCADE, table_name text NOT NULL,
            landed_rows bigint NOT NULL, quarantined_rows bigint NOT NULL, PRIMARY KEY (batch_id, table_name)
        );
        COMMENT ON TABLE ops.ingested IS 'Rows that a night found for each silver table, and how many broke a rule.';

        CREATE TABLE ops.gate_result (
            gate text NOT NULL, table_name text NOT NULL, as_of_date date NOT NULL, success boolean NOT NULL,
            row_count bigint NOT NULL, expectation_count integer NOT NULL, failed_expectations text[] NOT NULL,
            message text NOT NULL, data_docs text, batch_id text NOT NULL, checked_at timestamptz NOT NULL,
            PRIMARY KEY (gate, table_name, as_of_date, batch_id)
        );

        CREATE TABLE ops.copied_part (
            staging_table text NOT NULL, part integer NOT NULL, row_count bigint NOT NULL,
            PRIMARY KEY (staging_table, part)
        );
        COMMENT ON TABLE ops.copied_part IS
            'Which Spark partitions stand in a staging table: a retried or doubled task finds its part here.';

        CREATE TABLE intake.investor_order (
            order_id text PRIMARY KEY DEFAULT gen_random_uuid()::text, investor_id text, amount text, currency text,
            target_return text, placed_at timestamptz DEFAULT now(), status text DEFAULT 'open',
            source_file text
        );
        COMMENT ON TABLE intake.investor_order IS
            'Orders as they came. Texts, so that a broken order lands and is refused with its reasons. source_file: the '
            'landed file that an order came from, null for a front end''s.';

        CREATE TABLE intake.order_refusal (
            order_id text PRIMARY KEY, reasons text[] NOT NULL, refused_at timestamptz NOT NULL DEFAULT now()
        );
        """
    )
    for table, (columns, key) in PUBLISHED.items():
        op.execute(
            f"""
            CREATE TABLE publication.{table} ({columns}, PRIMARY KEY ({key}, batch_id)) PARTITION BY LIST (batch_id);
            CREATE VIEW publication.latest_{table} AS
                SELECT {f"{SCORE_COLUMNS}, {CONTRACT} AS data_contract_version" if table == "borrower_score" else "*"}
                FROM publication.{table} WHERE batch_id = {CURRENT};
            GRANT SELECT ON publication.latest_{table} TO mosaic_reader;
            """
        )
    op.execute(
        """
        CREATE VIEW publication.latest_publication AS
            SELECT product, batch_id, as_of_date, data_contract_version, moved_at AS published_at, manifest, content
            FROM publication.current_batch JOIN publication.batch USING (product, batch_id, as_of_date,
                                                                         data_contract_version);
        GRANT SELECT ON publication.latest_publication TO mosaic_reader;

        GRANT USAGE ON SCHEMA publication TO mosaic_reader;
        GRANT USAGE ON SCHEMA ops, intake TO mosaic_publisher;
        GRANT USAGE, CREATE ON SCHEMA publication TO mosaic_publisher;
        GRANT SELECT, INSERT, UPDATE, DELETE ON publication.batch, publication.current_batch TO mosaic_publisher;
        GRANT SELECT, INSERT ON publication.publication_log TO mosaic_publisher;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ops.run_manifest, ops.ingested, ops.gate_result, ops.copied_part
            TO mosaic_publisher;
        GRANT SELECT ON ops.market TO mosaic_publisher;

        GRANT USAGE ON SCHEMA intake TO mosaic_intake;
        GRANT SELECT, INSERT ON intake.investor_order TO mosaic_intake;
        GRANT SELECT ON intake.order_refusal TO mosaic_intake;
        GRANT SELECT ON intake.investor_order TO mosaic_publisher;
        GRANT SELECT, INSERT ON intake.order_refusal TO mosaic_publisher;
        """
    )
    # Attaching a partition takes ownership of the table it is attached to.
    for table in PUBLISHED:
        op.execute(f"ALTER TABLE publication.{table} OWNER TO mosaic_publisher")
        op.execute(f"GRANT SELECT ON publication.{table} TO mosaic_owner")
