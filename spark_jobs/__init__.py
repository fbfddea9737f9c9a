"""The jobs: each reads, transforms, checks and writes; ``python -m spark_jobs <job>`` runs one by hand."""
