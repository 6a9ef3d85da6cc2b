"""Run a module as `accelerate launch` does, in a form that signals can end: python -m stages.common.launch ARGUMENTS.

A single process needs no launcher, which would be another process to stop: the module runs in this one. CUDA is not
initialized yet, so that it sees the GPUs of accelerate's config. Several processes get the launcher of PyTorch, which
passes signals on.
"""

import os
import runpy
import sys

os.environ.setdefault("ACCELERATE_LOG_LEVEL", "error")

from accelerate.commands import launch
from accelerate.utils import prepare_simple_launcher_cmd_env
from torch.distributed.elastic.multiprocessing.api import SignalException


def main() -> None:
    arguments, *_ = launch._validate_launch_command(launch.launch_command_parser().parse_args())
    several = ("multi_gpu", "tpu", "use_deepspeed", "use_fsdp", "use_megatron_lm")
    if any(getattr(arguments, name) for name in several):
        try:
            launch.launch_command(arguments)
        except SignalException as signal:
            sys.exit(128 + signal.sigval)
    else:
        _, environment = prepare_simple_launcher_cmd_env(arguments)
        os.environ.update(environment)
        sys.argv = [arguments.training_script, *arguments.training_script_args]
        runpy.run_module(arguments.training_script, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
