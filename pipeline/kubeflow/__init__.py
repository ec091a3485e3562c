"""The Kubeflow runner: the compiled spec, its submission, and one step in its container."""
