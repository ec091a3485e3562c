"""The engines that Beam can run on: settings, and files that start an engine."""
