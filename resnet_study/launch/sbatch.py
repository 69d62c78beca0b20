"""Options of sbatch that a user adds: what is refused before anything is queued, and why.

Every run is one task on one node, which puts itself back into the queue and is looked for there.
What would break that is refused by name; everything else goes to sbatch as it is given.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from resnet_study.errors import UserError, shown
from resnet_study.names import nearest_hint

Value = str | bool

_ONE = "a run is one task on one node; docs/gpu.md has one run over several"
_OUTPUT = "the output of all tasks is in slurm/ of the results folder"
_SAYS = "what sbatch says is read by this command"
_ENVIRONMENT = "a task has the variables of this command; set others in front of it"
_REQUEUE = "a task goes back into the queue when its time is up or its node is lost"

REFUSED = {
    "time": "give it as --time",
    "partition": "give it as --partition",
    "cpus_per_task": "give it as --cpus",
    "cpus_per_gpu": "give the cores of a task as --cpus",
    "num_gpus": "give it as --gpus",
    "array_parallelism": "give it as --parallel",
    "array": "there is a task for each run; --runs takes the first ones, --parallel limits them",
    "signal": "a task is warned by SIGUSR2; signal_delay_s=300 warns it earlier",
    "requeue": _REQUEUE,
    "no_requeue": _REQUEUE,
    "no_kill": _REQUEUE,
    "nodes": _ONE,
    "nodefile": _ONE,
    "ntasks": _ONE,
    "ntasks_per_node": _ONE,
    "ntasks_per_core": _ONE,
    "ntasks_per_gpu": _ONE,
    "ntasks_per_socket": _ONE,
    "ntasks_per_tres": _ONE,
    "tasks_per_node": _ONE,
    "output": _OUTPUT,
    "error": _OUTPUT,
    "open_mode": _OUTPUT,
    "chdir": "a task starts in the folder in which this command is given",
    "export": _ENVIRONMENT,
    "export_file": _ENVIRONMENT,
    "wait": "this command returns at once; resnet-study status shows how far the runs are",
    "test_only": "--dry_run shows the runs",
    "wrap": "a task trains its run",
    "parsable": _SAYS,
    "quiet": _SAYS,
    "verbose": _SAYS,
    "clusters": "status asks one cluster; set SLURM_CLUSTERS in front of both commands",
    "cluster": "status asks one cluster; set SLURM_CLUSTERS in front of both commands",
    "use_srun": "the warning before the time limit reaches a task through srun",
    "srun_args": "srun takes its options from variables too, such as SLURM_CPU_BIND=none",
    "additional_parameters": "give each of them by its own name",
}
"""Names of sbatch and submitit, with the reason."""

AS_IT_IS = {"nodes": "1", "ntasks": "1", "ntasks_per_node": "1", "requeue": True}
"""Values of refused names that ask for what is done anyway."""

SWITCHES = (
    *("contiguous", "exclusive", "get_user_env", "hold", "ignore_pbs", "nice", "overcommit"),
    *("oversubscribe", "propagate", "reboot", "requeue", "spread_job", "use_min_nodes"),
    "stderr_to_stdout",
)
"""Names that may stand without a value."""

OWN = ("signal_delay_s", "setup", "teardown", "stderr_to_stdout")
"""Names of submitit that sbatch does not know."""

_OF_VARIABLES = {"array_inx": "array", "timelimit": "time", "debug": "verbose"}


def options_of(texts: Iterable[str]) -> dict[str, Value]:
    """Options by name, with underscores, out of ``name=value`` and names without a value.

    Raises:
        UserError: for one that has no value, is given twice, or is refused.
    """
    found: dict[str, Value] = {}
    for text in texts:
        name, equals, given = text.partition("=")
        name = name.replace("-", "_")
        bare = not equals and name in (*SWITCHES, *REFUSED)
        if not bare and not (name and given and given.isprintable()):
            raise UserError(f"--sbatch {shown(text)}: write a name and its value, account=vision")
        value: Value = True if bare or (name in SWITCHES and given == "true") else given
        if name in found:
            raise UserError(f"--sbatch {name} is given twice; give it once")
        if name in SWITCHES and given == "false" and name not in REFUSED:
            raise UserError(f"--sbatch {text}: leave it out")
        if name in REFUSED and AS_IT_IS.get(name) != value:
            raise UserError(f"--sbatch {shown(text)}: {REFUSED[name]}")
        if name == "nodelist" and re.search(r"[,[]", given):
            raise UserError(
                f"--sbatch {shown(text)}: {_ONE}; exclude and constraint leave a choice"
            )
        if name == "signal_delay_s" and not re.fullmatch("[0-9]{1,5}", given):
            raise UserError(f"--sbatch {shown(text)}: seconds, a whole number")
        found[name] = value
    return found


def asks_for_gpus(name: str, value: Value) -> bool:
    """Whether an option is one of those with which GPUs are asked for."""
    return name.startswith("gpus") or (name == "gres" and "gpu" in str(value))


def check_known(names: Collection[str]) -> None:
    """Refuse options that the sbatch of this cluster does not have.

    Raises:
        UserError: with the nearest name, or if there is no SLURM.
    """
    known = {name.replace("-", "_") for name in re.findall(r"--([a-z][a-z-]+)", _said("--help"))}
    known |= {*OWN, *REFUSED}
    for name in names:
        if name in known:
            continue
        # Its help leaves some out; but it takes the beginning of a name for the whole.
        begins = any(other.startswith(name) for other in known)
        said = _said(f"--{name.replace('_', '-')}=1", "--version")
        if begins or re.search("unrecognized option|ambiguous", said):
            near = nearest_hint(name, sorted(known))
            raise UserError(f"--sbatch {shown(name)}: sbatch has no such option; {near}")


def _said(*words: str) -> str:
    try:
        told = subprocess.run(
            ["sbatch", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
    except FileNotFoundError:
        raise UserError("--on slurm: no sbatch here; give it where SLURM is installed") from None
    return told.stdout + told.stderr


@contextmanager
def variables(names: Collection[str]) -> Iterator[None]:
    """Without the variables of sbatch that would count more than these options of a script.

    Raises:
        UserError: for one that sets what is refused.
    """
    hidden = {}
    try:
        for variable in [name for name in os.environ if name.startswith("SBATCH_")]:
            option = variable.removeprefix("SBATCH_").lower()
            option = _OF_VARIABLES.get(option, option)
            if option in names:
                hidden[variable] = os.environ.pop(variable)
            elif option in REFUSED and option != "partition":
                raise UserError(f"{variable} is set, and {REFUSED[option]}; unset it")
        yield
    finally:
        os.environ.update(hidden)
