"""Whether Beam takes the options that the user gave it. Beam itself exits without a word, or ignores them."""

from __future__ import annotations

import argparse
import difflib
import io
from collections.abc import Collection
from contextlib import redirect_stderr, redirect_stdout, suppress

from data.errors import SettingsError
from pipeline.engines.settings import Beam, pipeline_args

_REMEDY = "correct --beam-arg, or beam.args in the settings."


def check_options(beam: Beam, engine: Collection[str] | None = None) -> None:
    """Stops before anything is made if Beam would refuse one of `beam.args`, or not know it.

    Args:
        beam: the settings.
        engine: options that the engine has of its own. None if that cannot be known yet, of a job server and of
            Dataflow: then an unknown option passes.

    Raises:
        SettingsError: an unknown option, a value of the wrong kind, or a runner that cannot be loaded.
    """
    if not beam.args:
        return
    heard, chosen = io.StringIO(), ""
    try:
        with redirect_stdout(heard), redirect_stderr(heard):
            from apache_beam.runners import create_runner

            chosen = _parse(beam)[0].runner
            classes = {base.__name__ for base in type(create_runner(chosen)).__mro__}
            known, unknown = _parse(beam, engine or ())  # now also with the options in the runner's own module
    except SystemExit:  # argparse's, whose message ends what it printed
        _, _, message = heard.getvalue().strip().partition("error: argument ")
        raise SettingsError(f"Beam cannot use its option {message or '--help'}: {_REMEDY}") from None
    except Exception as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise SettingsError(f"Beam cannot use its option --runner={chosen}: {reason}: {_REMEDY}") from None
    if unknown and not (engine is None and classes & {"PortableRunner", "DataflowRunner"}):
        name = unknown[0].partition("=")[0]
        close = difflib.get_close_matches(name, [f"--{option}" for option in vars(known)], n=1, cutoff=0.8)
        meant = f" Did you mean {close[0]}?" if close else ""
        raise SettingsError(f"Beam has no option {name!r}: {_REMEDY}{meant}")


def options_of(job_server: str) -> list[str]:
    """The options that the job server at `job_server`, host:port, has of its own, as they are written."""
    import grpc
    from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

    with grpc.insecure_channel(job_server) as channel:
        request = beam_job_api_pb2.DescribePipelineOptionsRequest()
        found = beam_job_api_pb2_grpc.JobServiceStub(channel).DescribePipelineOptions(request, timeout=30)
    return [f"--{option.name}" for option in found.options]


def _parse(beam: Beam, engine: Collection[str] = ()) -> tuple[argparse.Namespace, list[str]]:
    """Beam's options, read by all option classes that are loaded, and what none of them knows.

    That is also an abbreviation: Beam 2.60 takes it, and 2.77 does not.
    """
    from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser

    parser = _BeamArgumentParser(allow_abbrev=False)
    for kind in {str(kind): kind for kind in PipelineOptions.__subclasses__()}.values():
        kind._add_argparse_args(parser)
    for name in engine:
        with suppress(argparse.ArgumentError):  # Beam has it too
            parser.add_argument(name, nargs="?", action="append")
    return parser.parse_known_args(pipeline_args(beam))
