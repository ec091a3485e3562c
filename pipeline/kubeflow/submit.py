"""Submits a compiled spec to Kubeflow Pipelines: an upload, then a run or a schedule, through the kfp SDK."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import SettingsError, UserError

if TYPE_CHECKING:
    import kfp


@dataclass(frozen=True)
class Submission:
    """What to start, and how."""

    pipeline_name: str
    pipeline_root: str
    experiment: str
    run_name: str | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    cron: str | None = None


def submit(host: str, namespace: str | None, package: str, submission: Submission) -> str:
    """Uploads `package`, a compiled spec, and starts it.

    Credentials come from the environment only: KFP_TOKEN, a bearer token, or KFP_COOKIE, a session's cookie.

    Returns:
        A sentence with the run's or the schedule's address.

    Raises:
        SettingsError: a namespace is needed.
        UserError: no answer from `host`, or the request was refused.
    """
    import kfp_server_api
    import urllib3.exceptions
    from kfp import client

    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it warns about each attempt
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
        return _start(api, namespace, package, submission, host.rstrip("/"))
    except urllib3.exceptions.HTTPError as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"Kubeflow Pipelines does not answer at {host}: {type(reason).__name__}."
            " Check --host, or forward the port of ml-pipeline-ui to this machine."
        ) from None
    except (kfp_server_api.OpenApiException, ValueError) as error:
        raise UserError(f"Kubeflow Pipelines at {host} refused the request: {_error_message(error)}.") from None


def _start(api: kfp.Client, namespace: str | None, package: str, submission: Submission, host: str) -> str:
    stamped = f"{submission.pipeline_name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    name = submission.run_name or stamped
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pipeline.yaml")
        file.write_text(package, encoding="utf-8")
        pipeline, version = _upload(api, namespace, str(file), submission.pipeline_name, stamped)
    experiment = api.create_experiment(submission.experiment, namespace=namespace).experiment_id
    what = {
        "params": submission.parameters,
        "pipeline_id": pipeline,
        "version_id": version,
        "pipeline_root": submission.pipeline_root,
    }
    if submission.cron:
        schedule = api.create_recurring_run(
            experiment, name, cron_expression=submission.cron, max_concurrency=1, no_catchup=True, **what
        )
        return f"Scheduled {name}, {submission.cron!r}: {host}/#/recurringrun/details/{schedule.recurring_run_id}"
    run = api.run_pipeline(experiment, name, **what)
    return f"Started {name}: {host}/#/runs/details/{run.run_id}"


def _upload(
    api: kfp.Client, namespace: str | None, file: str, pipeline_name: str, version_name: str
) -> tuple[str, str]:
    """Uploads a pipeline, or a new version of it where its name is known; returns both ids."""
    same_name = {"key": "display_name", "operation": "EQUALS", "stringValue": pipeline_name}
    found = api.list_pipelines(namespace=namespace, filter=json.dumps({"predicates": [same_name]})).pipelines
    if not found:
        pipeline = api.upload_pipeline(file, pipeline_name=pipeline_name, namespace=namespace).pipeline_id
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
