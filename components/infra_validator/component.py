"""The infra check: a model is pushed only after it has answered over gRPC."""

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf
from tfx import types
from tfx import v1 as tfx
from tfx.utils import io_utils, path_utils

from components.infra_validator import REASON, REPORT
from components.infra_validator.checks import Check, check_answers, check_latency, check_signatures, check_size
from components.infra_validator.warmup import write_warmup
from components.settings import Infra
from components.trainer.samples import Samples, read_samples
from serving.client import Client
from serving.errors import ServingError
from serving.launch import ModelServer, model_server, server_kind, wait_until_available

log = logging.getLogger(__name__)


@tfx.dsl.components.component
def InfraValidator(
    model: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Model],
    model_run: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.ModelRun],
    model_blessing: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.ModelBlessing],
    blessing: tfx.dsl.components.OutputArtifact[tfx.types.standard_artifacts.InfraBlessing],
    model_name: tfx.dsl.components.Parameter[str],
    signatures: tfx.dsl.components.Parameter[str],
    settings: tfx.dsl.components.Parameter[str],
    code: tfx.dsl.components.Parameter[str],
) -> None:
    """Serves a warmed-up copy of the model in a process of its own, asks every signature, and blesses it or not.

    Args:
        model: the candidate.
        model_run: where the Trainer left samples with its own predictions.
        model_blessing: the Evaluator's; a model it refused is not served at all.
        blessing: a standard InfraBlessing, with the copy that was served in `stamped_model` and a report.
        model_name: TF Serving's.
        signatures: the names of those the model must have, separated by commas.
        settings: an `Infra` as JSON.
        code: fingerprint of the sources, for TFX's cache.
    """
    infra, names = Infra.model_validate_json(settings), signatures.split(",")
    if not model_blessing.get_int_custom_property("blessed"):
        log.info("The Evaluator refused the model, so it was not served.")
        _verdict(blessing, [Check("the Evaluator's verdict", "refused", "a blessed model", False)], server="none")
        return
    source = path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model))
    with _workplace(infra, blessing.uri) as work:
        # A version of its own: a server that has seen this one before would not load it anew.
        version = int(time.time())
        stamped = os.path.join(work, model_name, str(version))
        io_utils.copy_dir(source, stamped)
        samples = read_samples(model_run.uri)
        checks = [check_size(stamped, infra), *check_signatures(stamped, names)]
        if all(check.passed for check in checks):
            write_warmup(stamped, model_name, names, samples)
            checks += _served(stamped, names, samples, infra)
        for check in checks:
            if not check.passed:
                log.error("✗ %s", check)
        if _verdict(blessing, checks, server=infra.server or server_kind()):
            log.info(
                "Served and asked over gRPC, %d checks passed; %s: %s.", len(checks), checks[-1].what, checks[-1].seen
            )
            io_utils.copy_dir(stamped, path_utils.stamped_model_path(blessing.uri))
            blessing.set_int_custom_property("has_model", 1)


def _served(stamped: str, signatures: list[str], samples: Samples, infra: Infra) -> list[Check]:
    """Serves `<model name>/<version>` and asks it all that is to be asked; goes on until the server is gone."""
    checks: list[Check] = []
    base_path, version = os.path.split(stamped)
    name = Path(base_path).name
    try:
        with (
            _serving(base_path, name, infra) as server,
            Client(server.address, model=name, version=int(version)) as client,
        ):
            for signature in signatures:
                checks += check_answers(client, signature, samples, infra)
                if ended := server.ended():
                    return [*checks, Check("the model server", ended, "still running", False)]
            # A model that failed is not let into this process.
            if all(check.passed for check in checks):
                checks.append(check_latency(client, stamped, samples, infra))
    except ServingError as error:
        checks.append(Check("the model server", str(error), "the model is served", False))
    return checks


@contextmanager
def _workplace(infra: Infra, uri: str) -> Iterator[str]:
    """A folder to serve from: a temporary one, or one beside the artifact where a server elsewhere must see it."""
    if infra.server:
        yield os.path.join(uri, "served")
        return
    with tempfile.TemporaryDirectory(prefix="infra-check-") as folder:
        yield folder


@contextmanager
def _serving(base_path: str, model_name: str, infra: Infra) -> Iterator[ModelServer]:
    if infra.server:
        server = ModelServer(infra.server)
        with Client(infra.server, model=model_name, timeout=120) as client:
            client.reload(
                f'model_config_list {{ config {{ name: "{model_name}" base_path: "{base_path}"'
                ' model_platform: "tensorflow" } }'
            )
        yield server
        return
    flags = [f"--model_name={model_name}", f"--model_base_path={base_path}"]
    with model_server(flags, Path(base_path).parent / "server.log") as server:
        wait_until_available(server, model_name)
        yield server


def _verdict(blessing: types.Artifact, checks: list[Check], server: str) -> bool:
    """Writes the verdict as TFX's Pusher reads it, and the report beside it; returns whether the model is blessed."""
    failed = [check for check in checks if not check.passed]
    blessed = not failed
    blessing.set_int_custom_property("blessed", int(blessed))
    blessing.set_string_custom_property(REASON, "; ".join(str(check) for check in failed)[:1000])
    rows = [f"| {'✓' if c.passed else '✗'} | {c.what} | {c.seen} | {c.expected} |" for c in checks]
    lines = [
        f"# Infra check: {'blessed' if blessed else 'not blessed'}",
        "",
        f"Model server: {server}",
        "",
        "| | what | seen | expected |",
        "| --- | --- | --- | --- |",
        *rows,
    ]
    _write(os.path.join(blessing.uri, "INFRA_BLESSED" if blessed else "INFRA_NOT_BLESSED"), "")
    _write(os.path.join(blessing.uri, REPORT), "\n".join(lines) + "\n")
    return blessed


def _write(path: str, text: str) -> None:
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(text)
