"""What runs left behind, read from ML Metadata and the artifacts that it points to, and from nothing else."""
