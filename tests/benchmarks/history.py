"""How fast the history commands answer with 200 recorded runs: python -m tests.benchmarks.history.

One real run is made on a tenth of MNIST. Its records in ML Metadata are cloned 200 times, with other settings, other
figures and other predictions of 10,000 examples. Each command is a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from ml_metadata.proto import metadata_store_pb2

from pipeline.config import Config
from pipeline.runs.root import RunRoot
from pipeline.runs.store import RECORD
from tests.benchmarks.__main__ import ROOT, run, thinned

RUNS = 200
EXAMPLES = 10_000
BEST_OF = 5
_SHARED = {"Schema", "Examples", "ExampleStatistics", "ExampleAnomalies", "Integer", "TransformGraph", "TransformCache"}
"""The types of the artifacts that every run takes from the cache."""


def clone(root: Path, count: int) -> None:
    """Records `count` more runs like the newest one in the run root, each with an evaluation of its own on disk."""
    run_root = RunRoot(root, Config())
    history = run_root.history()
    store = history.store
    original = store.get_contexts_by_type("pipeline_run")[-1]
    record = json.loads(run_root.log(original.name).with_name(RECORD).read_text())
    (pipeline,) = store.get_parent_contexts_by_context(original.id)
    executions = store.get_executions_by_context(original.id)
    events = store.get_events_by_execution_ids([execution.id for execution in executions])
    artifacts = store.get_artifacts_by_id(sorted({event.artifact_id for event in events}))
    kinds = {kind.id: kind.name for kind in store.get_artifact_types()}
    own = [artifact for artifact in artifacts if kinds[artifact.type_id] not in _SHARED]
    nodes = {
        execution.id: [c.id for c in store.get_contexts_by_execution(execution.id) if c.type in ("node", "pipeline")]
        for execution in executions
    }
    generator = np.random.default_rng(0)
    runs, copies = [], []
    for number in range(count):
        context = _copy(original, name=f"20300101-000000-{number:06}")
        tree = record["settings"]
        tree["training"]["epochs"], tree["model"]["units"] = number % 17 + 2, 16 + number
        for name, value in history.begin(context.name, {**record, "listings": {}}).items():
            context.custom_properties[name].string_value = value
        runs.append(context)
        copies += [_artifact(artifact, root, number, kinds[artifact.type_id], generator) for artifact in own]
    run_ids = store.put_contexts(runs)
    store.put_parent_contexts([metadata_store_pb2.ParentContext(child_id=i, parent_id=pipeline.id) for i in run_ids])
    copy_ids = store.put_artifacts(copies)
    new = [_copy(execution, name="") for _ in range(count) for execution in executions]
    new_ids = store.put_executions(new)
    associations, attributions, new_events = [], [], []
    for number, run_id in enumerate(run_ids):
        first = number * len(executions)
        renamed = {e.id: new_ids[first + index] for index, e in enumerate(executions)}
        mine = {a.id: copy_ids[number * len(own) + index] for index, a in enumerate(own)}
        for old, identifier in renamed.items():
            for context_id in (run_id, *nodes[old]):
                associations.append(metadata_store_pb2.Association(execution_id=identifier, context_id=context_id))
        attributions += [
            metadata_store_pb2.Attribution(artifact_id=i, context_id=c)
            for i in mine.values()
            for c in (run_id, pipeline.id)
        ]
        for event in events:
            copied = metadata_store_pb2.Event()
            copied.CopyFrom(event)
            copied.execution_id = renamed[event.execution_id]
            copied.artifact_id = mine.get(event.artifact_id, event.artifact_id)
            new_events.append(copied)
    store.put_attributions_and_associations(attributions, associations)
    store.put_events(new_events)


def _copy(message: Any, name: str) -> Any:
    """A record without its id, its times and its unique names."""
    copied = type(message)()
    copied.CopyFrom(message)
    for field in ("id", "create_time_since_epoch", "last_update_time_since_epoch", "external_id", "name"):
        copied.ClearField(field)
    if name:
        copied.name = name
    return copied


def _artifact(artifact: Any, root: Path, number: int, kind: str, generator: np.random.Generator) -> Any:
    copied = _copy(artifact, name="")
    copied.uri = str(root / "artifacts" / "cloned" / kind / f"{artifact.id}-{number}")
    if kind == "ModelEvaluation":
        labels = np.arange(EXAMPLES) % 10
        wrong = generator.random(EXAMPLES) < 0.02
        class_ids = np.where(wrong, (labels + 1) % 10, labels)
        copied.custom_properties["accuracy"].double_value = float((class_ids == labels).mean())
        copied.custom_properties["examples"].double_value = EXAMPLES
        Path(copied.uri).mkdir(parents=True)
        np.savez_compressed(
            Path(copied.uri) / "predictions.npz",
            ids=np.arange(EXAMPLES, dtype=np.uint64) * np.uint64(2**50 - 27),
            labels=labels,
            class_ids=class_ids,
            confidence=np.full(EXAMPLES, 0.9, np.float32),
            baseline_class_ids=labels,
            row_accuracy=np.zeros(0, np.float32),
            worst=np.flatnonzero(wrong)[:40],
            worst_inputs=np.zeros((min(40, int(wrong.sum())), 28, 28), np.float32),
        )
    return copied


def seconds(*command: str) -> float:
    """The wall time of a process, the best of some."""
    times = []
    for _ in range(BEST_OF):
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        thinned(10, Path(folder, "data"))
        easy = ("training.epochs=2", "gates.accuracy=0.1", "gates.class_accuracy=0.0", "infra.max_latency_ratio=1000")
        run("-m", "pipeline.run_local", "--run-root", str(root), "--set", f"data.path={folder}/data", *easy)
        clone(root, RUNS)
        history = ("-m", "pipeline.history")
        at = ("--run-root", str(root))
        first, last = "20300101-000000-000000", f"20300101-000000-{RUNS - 1:06}"
        for name, command in {
            "an empty process": ("-c", ""),
            "import ml_metadata": ("-c", "import ml_metadata"),
            "import scipy.stats": ("-c", "import scipy.stats"),
            "history --help": (*history, "--help"),
            f"history list, {RUNS} runs": (*history, "list", *at),
            "history show last": (*history, "show", "last", *at),
            "history compare, 2 runs": (*history, "compare", first, last, *at),
        }.items():
            print(f"{name}: {seconds(*command):.2f} s", flush=True)


if __name__ == "__main__":
    main()
