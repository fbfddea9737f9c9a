"""What everything else agrees on: settings, tables, features and source mappings. Imports nothing of the project."""
