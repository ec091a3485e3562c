"""Submits a compiled spec to Kubeflow Pipelines: an upload, then a run or a schedule, through the kfp SDK."""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import SettingsError, UserError

if TYPE_CHECKING:
    import kfp


def submit(args: argparse.Namespace, name: str, package: str, parameters: dict[str, str]) -> str:
    """Uploads the spec `package`, YAML, of the pipeline `name`, and starts a run with `parameters`, or a schedule.

    Credentials come from the environment only: KFP_TOKEN, a bearer token, or KFP_COOKIE, a session's cookie.

    Returns:
        A sentence with the run's or the schedule's address.

    Raises:
        SettingsError: a namespace is needed.
        UserError: no answer from the host, or the request was refused.
    """
    import kfp_server_api
    import urllib3.exceptions
    from kfp import client

    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it warns about each attempt
    host, namespace = args.host, args.namespace
    token, cookie = os.environ.get("KFP_TOKEN"), os.environ.get("KFP_COOKIE")
    # The SDK's own first request would be tried for half a minute, with a traceback each time.
    configuration = kfp_server_api.Configuration(host=host)
    if token:
        configuration.api_key, configuration.api_key_prefix = {"authorization": token}, {"authorization": "Bearer"}
    try:
        with kfp_server_api.ApiClient(configuration, cookie=cookie) as first:
            several_users = kfp_server_api.HealthzServiceApi(first).healthz_service_get_healthz().multi_user
        if several_users is None:
            raise UserError(
                f"{host} answers with a page and not as Kubeflow Pipelines' API: if it needs a login, set"
                " KFP_TOKEN to a bearer token, or KFP_COOKIE to the session's cookie; else correct --host."
            )
        if several_users and not namespace:
            raise SettingsError(f"Kubeflow Pipelines at {host} has several users: name yours with --namespace.")
        api = client.Client(host=host, namespace=namespace or "kubeflow", existing_token=token, cookies=cookie)
        return _start(api, args, name, package, parameters)
    except urllib3.exceptions.HTTPError as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"Kubeflow Pipelines does not answer at {host}: {type(reason).__name__}."
            " Check --host, or forward the port of ml-pipeline-ui to this machine."
        ) from None
    except (kfp_server_api.OpenApiException, ValueError) as error:
        raise UserError(f"Kubeflow Pipelines at {host} refused the request: {_error_message(error)}.") from None


def _start(api: kfp.Client, args: argparse.Namespace, name: str, package: str, parameters: dict[str, str]) -> str:
    stamped = f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    title, host = args.run_name or stamped, args.host.rstrip("/")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pipeline.yaml")
        file.write_text(package, encoding="utf-8")
        pipeline, version = _upload(api, args.namespace, str(file), name, stamped)
    experiment = api.create_experiment(args.experiment, namespace=args.namespace).experiment_id
    root = args.pipeline_root
    what = {"params": parameters, "pipeline_id": pipeline, "version_id": version, "pipeline_root": root}
    if args.cron:
        fields = args.cron.split()
        if len(fields) not in (5, 6):
            raise SettingsError(
                f"--cron {args.cron!r} is no schedule of five fields, or of six with seconds: 0 3 * * *."
            )
        cron = " ".join(fields if len(fields) == 6 else ["0", *fields])
        schedule = api.create_recurring_run(
            experiment, title, cron_expression=cron, max_concurrency=1, no_catchup=True, **what
        )
        return f"Scheduled {title}, {args.cron!r}: {host}/#/recurringrun/details/{schedule.recurring_run_id}"
    run = api.run_pipeline(experiment, title, **what)
    return f"Started {title}: {host}/#/runs/details/{run.run_id}"


def _upload(api: kfp.Client, namespace: str | None, file: str, name: str, version_name: str) -> tuple[str, str]:
    """Uploads a pipeline, or a new version of it where its name is known; returns both ids."""
    same_name = {"key": "display_name", "operation": "EQUALS", "stringValue": name}
    found = api.list_pipelines(namespace=namespace, filter=json.dumps({"predicates": [same_name]})).pipelines
    if not found:
        pipeline = api.upload_pipeline(file, pipeline_name=name, namespace=namespace).pipeline_id
        versions = api.list_pipeline_versions(pipeline, page_size=1, sort_by="created_at desc").pipeline_versions
        return pipeline, versions[0].pipeline_version_id
    known = found[0].pipeline_id
    version = api.upload_pipeline_version(file, pipeline_version_name=version_name, pipeline_id=known)
    return known, version.pipeline_version_id


def _error_message(error: Exception) -> str:
    """The server's message, without its stack."""
    status, body = getattr(error, "status", ""), getattr(error, "body", "") or ""
    with suppress(ValueError, KeyError, TypeError):
        body = json.loads(body)["message"]
    first = str(body or error).strip().splitlines()[:1] or [getattr(error, "reason", "")]
    return f"{status} {first[0]}".strip().rstrip(".")[:400]
