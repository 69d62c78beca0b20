"""The subcommands ``evaluate``, ``features`` and ``measure``: single networks, trained or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from resnet_study.cli.commands import Flat, Positional, check_count, console_for_tables
from resnet_study.cli.drawing import Drawing
from resnet_study.datasets import DataSource
from resnet_study.errors import UserError
from resnet_study.training.options import Execution

if TYPE_CHECKING:
    import pandas as pd

    from resnet_study.data import Dataset
    from resnet_study.inspection.evaluate import Evaluation
    from resnet_study.inspection.inspected import Inspected
    from resnet_study.training.devices import Devices


def evaluate(
    run: Annotated[Path | None, Positional] = None,
    step: int | None = None,
    weights: Path | None = None,
    split: str = "test",
    probabilities: Path | None = None,
    export: Path | None = None,
    json: bool = False,
    *,
    source: Annotated[DataSource, Flat],
    execution: Annotated[Execution, Flat],
) -> int:
    """Evaluate a network: error, loss, error by class and confusion matrix.

    Such as:
    $ resnet-study evaluate results/quick/runs/RUN
    $ resnet-study evaluate --weights=RUN.safetensors --cifar10=PATH

    Args:
        run: Run folder; not needed where the file of weights tells the spec.
        step: Of a checkpoint, by default the newest; 0 is the network as initialised.
        weights: File of weights (.safetensors) in place of a checkpoint.
        split: train_clean (all training images, as they are), val or test.
        probabilities: CSV file to write, with label, prediction and softmax of every image.
        export: File of weights (.safetensors) to write, which this command reads.
        json: Print JSON for machines instead of tables.
        source: where the images are.
        execution: by default what computed the run.
    """
    import json as library

    network, dataset, where, note = _opened(run, weights, step, split, source, execution)
    from resnet_study.files import strict
    from resnet_study.inspection import evaluate as evaluating
    from resnet_study.inspection.inspected import export as write_weights
    from resnet_study.inspection.inspected import images_of, logits_of

    images = images_of(dataset, split)
    logits = logits_of(network, where, images.images, dataset.mean)
    result = evaluating.evaluation_of(logits, images.labels)
    names = evaluating.class_names(network.spec.data.name, logits.shape[1])
    if probabilities is not None:
        evaluating.write_probabilities(probabilities, result, names)
    if export is not None:
        write_weights(network, export)
    if json:
        content = evaluating.as_json(network, split, result, names, note)
        print(library.dumps(strict(content), indent=2, allow_nan=False))
        return 0
    _print_evaluation(network, split, result, names, note)
    for written in filter(None, (probabilities, export)):
        print(written)
    return 0


def features(
    run: Annotated[Path | None, Positional] = None,
    step: int | None = None,
    weights: Path | None = None,
    images: Annotated[str, tyro.conf.arg(metavar="N,...")] = "0,1,2",
    channels: int = 8,
    output: Path | None = None,
    *,
    drawing: Annotated[Drawing, Flat],
    source: Annotated[DataSource, Flat],
    execution: Annotated[Execution, Flat],
) -> int:
    """Draw the filters of the first layer and the feature maps of each stage.

    Such as:
    $ resnet-study features results/quick/runs/RUN --images=0,7,12

    Args:
        run: Run folder; not needed where the file of weights tells the spec.
        step: Of a checkpoint, by default the newest; 0 is the network as initialised.
        weights: File of weights (.safetensors) in place of a checkpoint.
        images: Positions in the test split, from 0.
        channels: Maps shown of each stage, evenly spaced.
        output: Folder for the files; by default figures/ in the run folder, or here.
        drawing: how.
        source: where the images are.
        execution: by default what computed the run.
    """
    from resnet_study.names import integers

    look, formats = drawing.checked()
    positions = integers("--images", images)
    check_count("--channels", channels)
    network, dataset, where, note = _opened(run, weights, step, "test", source, execution)
    from resnet_study.drawing.look import looking
    from resnet_study.drawing.render import save
    from resnet_study.inspection import features as drawn
    from resnet_study.inspection.evaluate import class_names

    chosen = drawn.images_at(dataset.test, positions)
    found = drawn.features_of(network, where, chosen.images, dataset.mean)
    names = class_names(network.spec.data.name, dataset.classes)
    with looking(look):
        figure = drawn.draw(network, found, chosen, positions, names, channels)
        files = save(figure, _folder(output, run), f"features_{_label(network)}", formats)
    if note:
        print(note)
    for file in files.values():
        print(file)
    return 0


def measure(
    run: Annotated[Path | None, Positional] = None,
    step: int | None = None,
    weights: Path | None = None,
    lesion_images: int = 1000,
    samples: int = 5,
    csv: Path | None = None,
    output: Path | None = None,
    *,
    drawing: Annotated[Drawing, Flat],
    source: Annotated[DataSource, Flat],
    execution: Annotated[Execution, Flat],
) -> int:
    """Measure a network as networks are measured at initialisation, and what lesions do to it.

    Gradients and responses by layer, gradients along single paths (Veit et al. 2016), shattering
    (Balduzzi et al. 2017), norms and variances by block; and the test error without single blocks
    or layers, without random ones, and with blocks swapped (Veit et al. 2016, section 4). Prints
    a table with the columns of records of initialisation, then what it says in short. The figure
    lesions is drawn where lesions are tested.

    Such as:
    $ resnet-study measure results/quick/runs/RUN --csv=trained.csv

    Args:
        run: Run folder; not needed where the file of weights tells the spec.
        step: Of a checkpoint, by default the newest; 0 is the network as initialised.
        weights: File of weights (.safetensors) in place of a checkpoint.
        lesion_images: Test images that lesions are tested on, a random choice, the same for every
            network; 0 tests none. A network of 56 layers takes as long as to evaluate it some
            hundred times on so many.
        samples: Random choices of each number of deletions and swaps.
        csv: File for the whole table, with the network's run id and step.
        output: Folder for the figure; by default figures/ in the run folder, or here.
        drawing: how.
        source: where the images are.
        execution: by default what computed the run.
    """
    look, formats = drawing.checked()
    check_count("--samples", samples)
    if lesion_images < 0:
        raise UserError(f"--lesion_images={lesion_images}: at least 0 is needed (0: no lesions)")
    network, dataset, where, note = _opened(run, weights, step, "test", source, execution)
    from resnet_study.drawing.look import looking
    from resnet_study.drawing.render import render
    from resnet_study.files import write_atomically
    from resnet_study.inspection import lesion_figure
    from resnet_study.inspection import measure as measuring

    table = measuring.measure(network, dataset, where, lesion_images, samples)
    _print_table(table)
    print(f"{network.name} ({network.source}) on {network.spec.data.name}")
    for finding in measuring.summary(table):
        print(f"{finding.what}: {finding.value:.4g}{' %' if finding.unit else ''}")
    if note:
        print(note)
    if csv is not None:
        csv.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(csv, table.to_csv(index=False))
        print(csv)
    if lesion_images:
        frames = lesion_figure.frames_of(table)
        named = replace(lesion_figure.lesions, name=f"lesions_{_label(network)}")
        with looking(look):
            figures = render([named], frames, _folder(output, run), True, formats)
        for figure in figures:
            print(*figure.files.values(), sep="\n")
    return 0


def _folder(output: Path | None, run: Path | None) -> Path:
    """Folder for figures, made if missing."""
    folder = output or (Path("figures") if run is None else run / "figures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _label(network: Inspected) -> str:
    """In the names of figures: the network and its step."""
    return network.name if network.step is None else f"{network.name}_step{network.step}"


def _print_table(table: pd.DataFrame) -> None:
    columns = ("quantity", "index", "stage", "value")
    print(table[[*columns]].to_string(index=False, float_format=lambda value: f"{value:.6g}"))


def _opened(
    run: Path | None,
    weights: Path | None,
    step: int | None,
    split: str,
    source: DataSource,
    execution: Execution,
) -> tuple[Inspected, Dataset, Devices, str]:
    """Network, data and devices, and a sentence on what differs from the run.

    What is cheap to check comes before images are decoded.
    """
    from resnet_study import runtime

    runtime.prepare()
    from resnet_study.data import load_dataset
    from resnet_study.inspection import inspected as networks
    from resnet_study.progress import count_progress

    if split not in networks.SPLITS:
        raise UserError(f"--split={split}: valid are {', '.join(networks.SPLITS)}")
    network, where, note = networks.on_devices(networks.load(run, weights, step), execution)
    source.refuse_unused([network.spec.data.name])
    with count_progress("decoding", "images") as progress:
        dataset = load_dataset(network.spec.data, network.spec.seed, source, progress)
    return network, dataset, where, note


def _print_evaluation(
    network: Inspected, split: str, result: Evaluation, names: list[str], note: str
) -> None:
    from rich.table import Table

    from resnet_study.inspection.evaluate import recorded_error

    print(f"{network.name} ({network.source}), {split}, {len(result.labels)} images")
    recorded = recorded_error(network, split)
    beside = "" if recorded is None else f" (recorded: {recorded:.4g} %)"
    print(f"error {result.error:.4g} %{beside}, loss {result.loss:.5g}")
    if note:
        print(note)
    table = Table(title="rows: true class; columns: images taken for it", title_justify="left")
    for column in ("class", "error %", *names):
        table.add_column(column, justify="right")
    for name, error, row in zip(names, result.class_errors, result.confusion, strict=True):
        table.add_row(name, f"{error:.2f}", *map(str, row))
    console_for_tables().print(table)
