"""Rules of the tables: one YAML file per table; they serve the row check, the CHECK constraints and the suites."""
