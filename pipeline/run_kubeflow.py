"""python -m pipeline.run_kubeflow: the same pipeline on Kubeflow Pipelines, or on Vertex AI."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

if not __package__:  # run as a file, as TFX's command does it: the packages are beside this folder, not in it
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data.errors import SettingsError, UserError, storage_problem
from pipeline.arguments import add_beam, add_settings, of_file, run_command
from pipeline.config import given_way, load
from pipeline.engines.options import check_options
from pipeline.local.tfx_command import is_asking


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: 0, or 1 for an error, or 2 for a wrong command line or profile."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.run_kubeflow", description="Compile the pipeline to a KFP v2 spec, or submit it."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--image", required=True, help="the pipeline's image, which every step runs in (Dockerfile)")
    common.add_argument(
        "--pipeline-root", required=True, metavar="URI", help="where artifacts go: gs://, s3:// or Kubeflow's minio://"
    )
    common.add_argument(
        "--volume", default="", metavar="CLAIM", help="a ReadWriteMany claim, mounted in every step, for served models"
    )
    common.add_argument(
        "--serving-dir",
        default="",
        metavar="DIR",
        help="TF Serving's base path (default: serving_models/<model name> on the volume, else in the pipeline root)",
    )
    add_settings(common)
    add_beam(common)
    common.add_argument(
        "--cache",
        action=argparse.BooleanOptionalAction,
        help="reuse steps whose inputs are the same; ExampleGen always runs (default: yes, and with --cron no)",
    )

    compiling = commands.add_parser("compile", parents=[common], help="write the spec")
    compiling.add_argument("--target", choices=["kubeflow", "vertex"], default="kubeflow", help="default: kubeflow")
    compiling.add_argument("-o", "--output", default="pipeline.yaml", metavar="FILE", help="default: pipeline.yaml")
    compiling.set_defaults(parameter=[], cron=None)

    submitting = commands.add_parser("submit", parents=[common], help="upload the spec to Kubeflow and start a run")
    submitting.add_argument("--host", required=True, metavar="URL", help="URL of the Kubeflow Pipelines API")
    submitting.add_argument("--namespace", help="the user's namespace, where Kubeflow has several users")
    submitting.add_argument("--experiment", default="Default", metavar="NAME", help="default: Default")
    submitting.add_argument("--run-name", metavar="NAME", help="default: the pipeline's name and the time")
    submitting.add_argument(
        "--parameter", action="append", default=[], metavar="KEY=VALUE", help="a run parameter: data_path=…"
    )
    submitting.add_argument(
        "--cron", metavar="EXPRESSION", help="start runs by this schedule, such as '0 3 * * *'; six fields have seconds"
    )
    submitting.set_defaults(target="kubeflow")
    args = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore", FutureWarning)
    return run_command("run_kubeflow", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    """Compiles the spec, and writes it; or uploads it as a version of the pipeline, and starts a run or a schedule."""
    if is_asking("create"):
        raise UserError("tfx pipeline create would keep nothing of this file: tfx pipeline compile writes the spec.")
    config = load(args.profile, args.set, args.beam_arg)
    check_options(config.beam)
    if find_spec("kfp") is None or find_spec("kfp.kubernetes") is None:
        raise UserError("The packages kfp and kfp-kubernetes are missing: they come with make setup.")
    import yaml

    from pipeline.kubeflow.compile import Deployment, compile_spec, unreadable
    from pipeline.kubeflow.submit import submit

    for sentence in given_way(config):
        print(f"run_kubeflow: {sentence}", file=sys.stderr)
    parameters = dict(map(_parameter, args.parameter))
    cache = args.cache if args.cache is not None else not args.cron
    deployment = Deployment(args.image, args.pipeline_root, args.target, args.volume, args.serving_dir, cache)
    documents = compile_spec(config, deployment)
    if warning := unreadable(parameters.get("data_path", config.data.path), deployment):
        print(f"run_kubeflow: {warning}", file=sys.stderr)
    package = yaml.safe_dump_all(documents, sort_keys=True, allow_unicode=True, width=120)
    if args.command == "submit":
        print(submit(args, config.name, package, parameters))
        return 0
    try:
        Path(args.output).write_text(package, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{args.output} cannot be written: {storage_problem(error) or error.strerror}.") from None
    steps = len(documents[0]["root"]["dag"]["tasks"])
    print(f"{args.output}: {steps} steps for {args.target}, image {args.image}, artifacts in {args.pipeline_root}")
    return 0


def _parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or name != "data_path":
        raise SettingsError(f"The run parameter {text!r} is not data_path=…, the only one the pipeline has.")
    return name, value


if __name__ == "__main__":
    sys.exit(
        main(None if __package__ else of_file("compile --target vertex --image IMAGE --pipeline-root gs://BUCKET/ROOT"))
    )
