"""Look-ups of what is published: a thin API over the ``latest_`` views, as mosaic_reader. Imports conf only."""
