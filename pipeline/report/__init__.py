"""The report: a run as one HTML file, and the command that writes it again."""
