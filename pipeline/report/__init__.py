"""The report of a run: one HTML file, made from ML Metadata and the artifacts that it points to."""
