"""python -m pipeline.run_kubeflow: the same pipeline on Kubeflow Pipelines, or on Vertex AI."""

import sys

from pipeline.kubeflow.cli import main

if __name__ == "__main__":
    sys.exit(main())
