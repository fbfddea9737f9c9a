"""# Roll back a publication

Moves the pointer of a product back to an earlier batch, which readers see at once, and records it. `make rollback` lists
the batches to choose from, and so does this task's error for one that is not there.
"""

from airflow.sdk import DAG, Param

from conf.settings import ROOT, load_settings
from conf.source import products_of
from conf.spark import JOBS_PYTHON
from dags.job_tasks import JobOperator, dag_defaults, publication

settings = load_settings()
batch = Param(type="string", minLength=1, description="The batch_id to serve again.")

with DAG(
    "rollback_publication",
    schedule=None,
    doc_md=__doc__,
    tags=["publication", settings.source],
    **(dag_defaults("credit-platform") | {"params": {"batch": batch}}),
):
    JobOperator(
        task_id="rollback_publication",
        doc_md="Moves the pointer; refuses a batch that is not there.",
        # By the environment, not in the command: a parameter is text that somebody typed.
        bash_command=f'{JOBS_PYTHON} -m spark_jobs rollback_publication --batch "$BATCH"',
        env={"BATCH": "{{ params.batch }}"},
        append_env=True,
        cwd=str(ROOT),
        retries=0,
        outlets=[publication(product) for product in products_of(settings)],
    )
