"""Films: every recorded iteration once, on axes that stand still."""

from pathlib import Path

import numpy as np
from PIL import Image

from resnet_study import phenomena
from resnet_study.drawing.render import render
from resnet_study.judging.selections import layer_quantity
from tests.planted import planted_frames

FRAMES = planted_frames((8, 20), 2, 6)
FIGURES = phenomena.figures()


def test_a_film_shows_the_records_on_axes_that_stand_still() -> None:
    figure = FIGURES["signal_and_turn"]
    assert figure.moving is not None
    pictures = list(figure.moving(figure.shown(FRAMES)))
    steps = sorted({int(step) for step in FRAMES.layers["step"]})
    assert [int(p.axes[0].get_title(loc="left").split("= ")[1]) for p in pictures] == steps
    for panel in (0, 1):
        assert len({picture.axes[panel].get_ylim() for picture in pictures}) == 1
    last = FRAMES.layers[(FRAMES.layers["step"] == steps[-1]) & (FRAMES.layers["depth"] == 20)]
    last = last[(last["family"] == "plain") & last["layer"].between(2, 19)]
    table = last.assign(value=layer_quantity(last, "signal"))
    table = table.pivot(index="layer", columns="seed", values="value")
    expected = np.exp(np.log(table / table.loc[19]).median(axis=1))
    gid = f"plain-signal-step{steps[-1]}"
    (line,) = [own for own in pictures[-1].axes[0].lines if own.get_gid() == gid]
    np.testing.assert_allclose(np.asarray(line.get_ydata(), float), expected)


def test_a_file_has_every_picture_and_other_figures_are_stills(tmp_path: Path) -> None:
    chosen = [FIGURES["signal_and_turn"], FIGURES["error_against_depth"]]
    film, still = render(chosen, FRAMES, tmp_path, strict=True, formats=["gif", "webp"])
    for form in ("gif", "webp"):
        with Image.open(film.files[form]) as moving, Image.open(still.files[form]) as single:
            assert moving.n_frames == FRAMES.layers["step"].nunique()
            assert moving.info["loop"] == 0
            assert getattr(single, "n_frames", 1) == 1
            # White stays white.
            assert moving.convert("RGB").getpixel((moving.width - 1, 0)) == (255, 255, 255)
