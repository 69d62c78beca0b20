"""The subcommands of whole studies: ``slice``, ``publish``, and all that is made of records."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import tyro

from resnet_study.cli.commands import (
    Flat,
    Positional,
    Runs,
    Shared,
    StudyName,
    command_line,
    frames_in,
    refuse_no_study,
    refuse_nothing,
)
from resnet_study.cli.drawing import Drawing
from resnet_study.errors import UserError
from resnet_study.launch.resources import Pool

NINE_MINUTES = Pool(minutes=9.0)


def slice_study(
    study: StudyName,
    state: Path | None = None,
    results: Path = Path("results"),
    *,
    pool: Annotated[Pool, Flat] = NINE_MINUTES,
    options: Shared,
) -> int:
    """Do the next minutes of a study, and leave one archive that any machine can go on from.

    Takes from the archive what is there, trains until the time is up, and writes it again: the
    records, and the newest checkpoint of each run that is not done. Draws and judges nothing;
    resnet-study report does, on any machine.

    Such as:
    $ resnet-study slice cifar10 --minutes=9 --cifar10=PATH --state=cifar10.tar

    Args:
        study: Name of a module in experiments/, such as cifar10, or a file, such as ./mine.py.
        state: The archive; by default RESULTS/<study>.tar.
        results: Folder of all studies.
        pool: workers and time.
        options: of every run.
    """
    from resnet_study.studies.find import load_study
    from resnet_study.studies.slices import run_slice

    chosen = load_study(study)
    archive = state or results / f"{chosen.name}.tar"
    return run_slice(chosen, results / chosen.name, archive, command_line(), options, pool)


def publish(
    source: Annotated[Path, Positional],
    target: Annotated[Path, Positional],
    megabytes: float = 25.0,
) -> int:
    """Copy the records of a study, small enough to commit.

    Leaves out the checkpoints and, if it must, some of the steps at which layers were recorded;
    README.md in the copy says which, and which runs are not finished.

    Args:
        source: Study folder, such as results/cifar10.
        target: Folder for the copy, such as results/reference/cifar10; its runs/ is replaced.
        megabytes: Limit of the copy.
    """
    from resnet_study.studies.publish import publish as publish_records

    print(publish_records(source, target, megabytes))
    return 0


def report(
    study: StudyName,
    folder: Annotated[Path | None, Positional] = None,
) -> int:
    """Write figures, findings, report and tables of a study again, from its records alone.

    Needs no accelerator and trains nothing; runs that are not finished are named as such.

    Args:
        study: Name of a module in experiments/, such as cifar10, or a file, such as ./mine.py.
        folder: Folder with the records, by default results/<study>.
    """
    from resnet_study.judging.printing import print_findings
    from resnet_study.studies.find import load_study, specs_of
    from resnet_study.studies.run import write_study

    chosen = load_study(study)
    folder = folder or Path("results") / chosen.name
    refuse_no_study(folder)
    runs = [folder / "runs" / spec.run_id for spec in specs_of(chosen)]
    print_findings(write_study(chosen, folder, runs))
    print(folder / "report.html")
    return 0


def explore(
    runs: Runs,
    output: Path | None = None,
) -> int:
    """Write one page on which every recorded layer can be looked at, at every iteration.

    It needs no network, is at most 3 MB, and says what was left out to make it so. The report of
    a study holds the same.

    Such as:
    $ resnet-study explore results/quick
    $ resnet-study explore results/quick results/cifar10 --output=both.html

    Args:
        runs: Study folders (results/quick) or run folders; several are told apart on the page.
        output: The page; by default explorer.html in the first folder.
    """
    from resnet_study.report.explorer import write_explorer

    refuse_nothing(runs)
    runs = list({folder.resolve(): folder for folder in reversed(runs)}.values())[::-1]
    page = output or runs[0] / "explorer.html"
    shown = write_explorer(runs, page)
    for sentence in shown.left_out:
        print(f"To keep the page small, {sentence}.")
    print(page)
    return 0


def figures(
    runs: Runs,
    only: Annotated[list[str] | None, tyro.conf.arg(metavar="NAME ...")] = None,
    study: Annotated[str | None, tyro.conf.arg(metavar="STUDY")] = None,
    output: Path | None = None,
    *,
    drawing: Annotated[Drawing, Flat],
) -> int:
    """Draw the figures of a study, or of any runs.

    Args:
        runs: Study folders (results/quick) or run folders.
        only: Names of figures; by default every one. An unknown name lists those that exist.
        study: Its name or file: those of its own runs, and by default the figures of its report.
        output: Folder for the files; by default figures/ in the first study folder.
        drawing: how.
    """
    from resnet_study import phenomena
    from resnet_study.drawing.film import FILMS
    from resnet_study.drawing.look import looking
    from resnet_study.drawing.render import render

    look, formats = drawing.checked()
    frames = frames_in(runs)
    folder = output or runs[0] / "figures"
    known = phenomena.figures()
    if study is not None:
        from resnet_study.studies.find import load_study, runs_of

        declared = load_study(study)
        frames = runs_of(declared, frames)
        own = {definition.name: definition for definition in declared.figures}
        known = own if only is None else known | own
        if not known:
            raise UserError(f"{study}: the study has no figures; name some with --only")
    chosen = phenomena.chosen("figure", known, only)
    with looking(look):
        drawn = render(chosen, frames, folder, only is not None, formats)
    still = [definition.name for definition in chosen if definition.moving is None]
    if still and (films := [form for form in formats if form in FILMS]):
        print(f"stills, for they do not move, in {' and '.join(films)}: {', '.join(still)}")
    for figure in drawn:
        first = next(iter(figure.files.values()), None)
        print(f"{figure.name}: {first or f'not drawn ({figure.problem})'}")
    return 0


def claims(
    runs: Runs,
    only: Annotated[list[str] | None, tyro.conf.arg(metavar="NAME ...")] = None,
    study: Annotated[str | None, tyro.conf.arg(metavar="STUDY")] = None,
    confidence: float = 0.95,
    details: bool = False,
    json: bool = False,
) -> int:
    """Judge the claims on recorded runs: effect, interval, seeds that agree and verdict.

    As in the report of their study: on its own runs, with its primary claims and seeds. All other
    claims that the project knows are judged too, as exploratory ones.

    Args:
        runs: Study folders (results/quick) or run folders.
        only: Names of claims; by default every one. An unknown name shows the nearest.
        study: Its name or file; by default the one that the first folder is named after.
        confidence: One minus the rate of false verdicts in each direction.
        details: Print the quote, the runs it takes and the numbers behind each verdict too.
        json: Print JSON for machines instead of a table.
    """
    from resnet_study.judging.judge import findings_json
    from resnet_study.studies.find import judge_records, load_study, studies

    if study is not None:
        load_study(study)
    if not 0.5 <= confidence < 1:
        raise UserError(f"--confidence={confidence}: valid are 0.5 to below 1")
    frames = frames_in(runs)
    name = runs[0].resolve().name if study is None else study
    findings = judge_records(frames, name, only, confidence)
    if json:
        print(findings_json(findings), end="")
    else:
        from resnet_study.judging.printing import print_findings

        print_findings(findings, details)
    if study is None and name not in studies():
        print(
            f"No study is called {name}: all claims that the project knows are judged, as "
            "exploratory ones. --study=FILE judges those of a study of your own.",
            file=sys.stderr,
        )
    return 0
