"""What spark-submit runs. It stands outside the packages, as spark-submit puts a script's folder first on the path."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from spark_jobs.__main__ import main

if __name__ == "__main__":
    main()
