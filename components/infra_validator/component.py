"""The infra check: a model is pushed only after it was served and called over gRPC."""

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.utils import io_utils, path_utils

from components.digests import sha256
from components.fingerprint import fingerprint
from components.infra_validator.checks import (
    SURROUNDINGS,
    check_latency,
    check_predictions,
    check_signatures,
    check_size,
)
from components.infra_validator.report import Check, write_blessing
from components.infra_validator.settings import Infra
from components.infra_validator.warmup import write_warmup
from components.trainer.reference import ReferencePredictions, read_reference_predictions
from data.errors import UserError
from serving.client import Client
from serving.errors import NotFoundError, ServingError
from serving.launch import ModelServer, model_server, server_kind, wait_until_available

_TIMEOUT = 60
"""Seconds for one call: a busy machine is no fault of the model."""

log = logging.getLogger(__name__)


def describe_server(infra: Infra) -> str:
    """The model server that the check will find on this machine, so that TFX's cache sees another one."""
    if infra.server:
        return infra.server
    server = server_kind()
    if Path(server).is_file():
        return f"{server}, SHA-256 {sha256(server)}"
    return f"{server} {fingerprint('serving.model_server.server')}"


@component
def InfraValidator(
    model: InputArtifact[standard_artifacts.Model],
    model_run: InputArtifact[standard_artifacts.ModelRun],
    model_blessing: InputArtifact[standard_artifacts.ModelBlessing],
    blessing: OutputArtifact[standard_artifacts.InfraBlessing],
    model_name: Parameter[str],
    signatures: Parameter[str],
    settings: Parameter[str],
    server_identity: Parameter[str],
) -> None:
    """The project's own infra check, in the place of TFX's InfraValidator and with the same output.

    It serves a warmed-up copy of the model in a process of its own, calls every signature, and blesses it or not.

    Args:
        model: the candidate.
        model_run: where the Trainer left its reference predictions.
        model_blessing: the Evaluator's; a model that it refused is not served at all.
        blessing: a standard InfraBlessing, with the copy that was served in `stamped_model`, and a report.
        model_name: TF Serving's.
        signatures: the names of the signatures that the model must have, separated by commas.
        settings: an `Infra` as JSON.
        server_identity: the model server that the runner found, so that TFX's cache sees another one.
    """
    infra, names = Infra.model_validate_json(settings), signatures.split(",")
    if not model_blessing.get_int_custom_property("blessed"):
        log.info("The Evaluator refused the model, so it was not served.")
        write_blessing(blessing, [Check("the Evaluator's verdict", "refused", "a blessed model", False)], server="none")
        return
    source = path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model))
    with tempfile.TemporaryDirectory(prefix="infra-check-") as temporary:
        # A server elsewhere must see the folder.
        folder = os.path.join(blessing.uri, "served") if infra.server else temporary
        # A version number of its own: a server that has loaded this number before would not load it again.
        version = time.time_ns() // 1_000_000
        stamped = os.path.join(folder, model_name, str(version))
        io_utils.copy_dir(source, stamped)
        reference = read_reference_predictions(model_run.uri)
        checks = [check_size(stamped, infra), *check_signatures(stamped, names)]
        if all(check.passed for check in checks):
            write_warmup(stamped, model_name, names, reference)
            checks += _serve_and_check(stamped, names, reference, infra)
        for check in checks:
            if not check.passed:
                log.error("✗ %s", check)
        if write_blessing(blessing, checks, server=infra.server or server_kind()):
            log.info(
                "Served and called over gRPC, %d checks passed; %s: %s.", len(checks), checks[-1].name, checks[-1].seen
            )
            io_utils.copy_dir(stamped, path_utils.stamped_model_path(blessing.uri))
            blessing.set_int_custom_property("has_model", 1)


def _serve_and_check(stamped: str, signatures: list[str], reference: ReferencePredictions, infra: Infra) -> list[Check]:
    """Serves `<model name>/<version>` and runs all checks; stops early if the model ends the server.

    Raises:
        UserError: the surroundings are at fault, so nothing is known of the model.
    """
    checks: list[Check] = []
    base_path, version = os.path.split(stamped)
    name = Path(base_path).name
    try:
        with (
            _running_server(base_path, name, infra) as server,
            Client(server.address, model=name, version=int(version), timeout=_TIMEOUT) as client,
        ):
            wait_until_available(server, name, int(version))  # TensorFlow Serving may load it after the reload
            for signature in signatures:
                try:
                    checks += check_predictions(client, signature, reference, infra)
                except SURROUNDINGS as error:
                    if not (ended := server.ended(wait=2)):
                        raise
                    checks.append(Check(signature, str(error), "a prediction", False))
                    return [*checks, Check("the model server", ended, "still running", False)]
            # A model that failed is not loaded into this process.
            if all(check.passed for check in checks):
                checks.append(check_latency(client, stamped, reference, infra))
    except SURROUNDINGS as error:
        raise UserError(
            f"The infra check could not be made, so nothing is known of the model: {error} The same command tries"
            " again."
        ) from error
    except ServingError as error:
        checks.append(Check("the model server", str(error), "the model is served", False))
    return checks


@contextmanager
def _running_server(base_path: str, model_name: str, infra: Infra) -> Iterator[ModelServer]:
    if infra.server:
        server = ModelServer(infra.server)
        with Client(infra.server, model=model_name, timeout=120) as client:
            try:
                client.reload(
                    f'model_config_list {{ config {{ name: "{model_name}" base_path: "{base_path}"'
                    ' model_platform: "tensorflow" } }'
                )
            except ServingError as error:
                if isinstance(error, SURROUNDINGS) or _loading_failed(client):
                    raise
                raise UserError(f"{infra.server} cannot serve {base_path}, which it must see: {error}") from error
        yield server
        return
    flags = [f"--model_name={model_name}", f"--model_base_path={base_path}"]
    with model_server(flags, Path(base_path).parent / "server.log") as server:
        yield server


def _loading_failed(client: Client) -> bool:
    """Whether the server has found the model, and could not load it."""
    try:
        return any(entry.error for entry in client.status())
    except NotFoundError:
        return False
