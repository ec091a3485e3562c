"""The Kubeflow runner: the command, the compiled spec, its submission, and one step in its container."""
