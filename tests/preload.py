"""What a process of tests/processes.py has imported when it starts."""

import gc
from importlib import import_module

# The collector would visit all that TFX loads again and again. Each process turns it on.
gc.disable()
for name in ("tensorflow_model_analysis", "tfx.components", "tfx.orchestration.portable.launcher"):
    import_module(name)
gc.freeze()
