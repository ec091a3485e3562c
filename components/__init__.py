"""What each step does: a file, or a folder where a step needs more, in the words of TFX."""
