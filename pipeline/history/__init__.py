"""What runs left behind, read from ML Metadata and the artifacts that it points to, and from nothing else.

store.py reads the records without loading TFX; the commands are in cli.py.
"""
