"""Where studies are: in `experiments/`, or in any file of one's own.

In a clone `experiments/`, `sweeps/` and `results/reference/` are at its top; in an installed
package they are inside it, of the results the findings alone.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from resnet_study import phenomena, probes
from resnet_study.datasets import DataSource
from resnet_study.errors import UserError, told
from resnet_study.files import expanded
from resnet_study.judging.judge import Finding, judge
from resnet_study.judging.selections import select
from resnet_study.launch.expand import expand
from resnet_study.launch.sweep import Sweep, load_sweep, sweep_of
from resnet_study.names import STUDY_MODULE, nearest_hint
from resnet_study.records import Frames
from resnet_study.spec import RunSpec
from resnet_study.studies.study import Study

PACKAGE = Path(__file__).resolve().parent.parent


def home() -> Path:
    """The folder that holds `experiments/`, `sweeps/` and `results/reference/`."""
    clone = PACKAGE.parent
    return clone if (clone / "experiments").is_dir() else PACKAGE / "bundled"


def reference_folder(study: str) -> Path:
    """The committed results of a study, which there need not be."""
    return home() / "results" / "reference" / study


def studies() -> list[str]:
    """Names of the studies in `experiments/`."""
    return sorted(p.stem for p in (home() / "experiments").glob("[!_]*.py"))


def load_study(name: str) -> Study:
    """A study by its name, or by the path of a module that holds one as ``STUDY``.

    Its probes are registered, so that runs of it can be trained in this process.

    Raises:
        UserError: if there is no such study or file, or the file cannot be read or holds none.
    """
    file = expanded(Path(name))
    if file.suffix != ".py":
        if name not in studies() and len(file.parts) > 1:
            what = "a folder" if file.is_dir() else "no module" if file.exists() else "no file"
            raise UserError(
                f"{name}: no such study; it is {what}: give a name such as quick, or a file such "
                "as ./mine.py"
            )
        if name not in studies():
            raise UserError(
                f"{name or 'an empty name'}: no such study; {nearest_hint(name, studies())} (a "
                "study of your own is a file, such as ./mine.py)"
            )
        file = home() / "experiments" / f"{name}.py"
    elif not file.is_file():
        raise UserError(f"{file}: no such file; give a study of your own, such as ./mine.py")
    study = getattr(_module(file), "STUDY", None)
    if not isinstance(study, Study):
        raise UserError(f"{file}: holds no study; define STUDY = Study(...)")
    probes.register(study.probes)
    return replace(study, folder=file.resolve().parent)


def judge_records(
    frames: Frames, name: str, only: Sequence[str] | None, confidence: float
) -> list[Finding]:
    """Judge claims on records as the report of their study does.

    Args:
        frames: the records; of a study only its own runs are judged.
        name: of a study, or its file; of a folder that is called after none: then all claims are
            exploratory, unless it is a file that is not there.
        only: names of claims, None for all that are known.
        confidence: as of `judge`.

    Raises:
        UserError: if there is no such claim or file, or no run of the study.
    """
    known = phenomena.claims()
    if Path(name).suffix != ".py" and name not in studies():
        try:
            claims = phenomena.chosen("claim", known, only)
        except UserError as error:
            raise UserError(f"{error}; --study=FILE knows those of a study of your own") from None
        return judge(claims, frames, confidence=confidence)
    study = load_study(name)
    known |= {claim.name: claim for claim in study.claims}
    return study.judge(runs_of(study, frames), phenomena.chosen("claim", known, only), confidence)


def runs_of(study: Study, frames: Frames) -> Frames:
    """Of the records those of runs of the study, and what was measured at initialisation.

    Raises:
        UserError: if there are none.
    """
    own = select(frames, [spec.run_id for spec in specs_of(study)])
    if not len(own.runs) and not study.initialization:
        raise UserError(f"none of these runs is of the study {study.name}; give another --study")
    return own


def checked_specs(study: Study, source: DataSource | None = None) -> list[RunSpec]:
    """The runs of a study that is to be trained, as `specs_of`.

    Raises:
        UserError: as `specs_of` and `Study.check`; also if a sweep has options in its command, for
            all runs are trained with those of one command line, or `source` is of no use.
    """
    for sweep in sweeps_of(study):
        for name in sweep.command.options:
            raise UserError(
                f"{sweep.path}: command: --{name} is an option of one sweep; leave it out there "
                "and give it to the command that trains the study"
            )
    specs = specs_of(study)
    study.check({spec.seed for spec in specs})
    (source or DataSource()).refuse_unused([spec.data.name for spec in specs])
    return specs


def specs_of(study: Study) -> list[RunSpec]:
    """The runs of every sweep of a study, each once, in the order of `Study`.

    Raises:
        UserError: if a sweep cannot be read.
    """
    extra = ",".join(probe.name for probe in study.probes)
    specs: dict[str, RunSpec] = {}
    for sweep in sweeps_of(study):
        runs = expand(sweep)
        # A grid has the seed last, so that a network's seeds follow each other.
        for spec in sorted(runs, key=_seed) if study.order != "longest" else runs:
            if extra:
                spec = replace(spec, probes=replace(spec.probes, extra=extra))
            specs.setdefault(spec.run_id, spec)
    # A stable sort: within a seed the order of the sweeps stays.
    return sorted(specs.values(), key=_seed) if study.order == "seed" else list(specs.values())


def sweeps_of(study: Study) -> Sequence[Sweep]:
    """The sweeps of a study, read."""
    read = []
    for sweep in study.sweeps:
        if isinstance(sweep, str | Path):
            beside = (study.folder or Path()) / sweep
            read.append(load_sweep(beside if beside.is_file() else home() / "sweeps" / sweep))
        else:
            read.append(sweep_of(sweep, f"a sweep of the study {study.name}"))
    return read


def _seed(spec: RunSpec) -> int:
    return spec.seed


def _module(file: Path) -> ModuleType:
    """Run a module under a name of its own, so that it shadows nothing."""
    name = f"{STUDY_MODULE}{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{file}: cannot be loaded ({told(error)})") from None
    return module
