"""Filters and feature maps: where each pixel of the pictures comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from resnet_study.data.augment import normalize
from resnet_study.drawing.render import save
from resnet_study.errors import UserError
from resnet_study.inspection import features
from resnet_study.inspection.inspected import logits_of
from resnet_study.models import Recorder
from tests.inspected import CPU, data_of, network_of, spec_of


def test_maps_are_the_outputs_of_the_last_blocks() -> None:
    network = network_of(spec_of(depth=14))
    dataset = data_of(network.spec)
    images = dataset.test.images[:3]
    found = features.features_of(network, CPU, images, dataset.mean)
    module = network.module()
    x = module.begin(
        normalize(jnp.asarray(images), jnp.asarray(dataset.mean)), Recorder(), train=False
    )
    outputs = []
    for block in module.blocks:
        x = block(x, Recorder(), train=False)
        outputs.append(x)
    for stage, output in zip(found.stages, outputs[1::2], strict=True):
        assert np.allclose(stage, output, rtol=1e-4, atol=1e-4)
    expected = logits_of(network, CPU, images, dataset.mean)
    assert np.allclose(found.logits, expected, rtol=1e-4, atol=1e-4)


def test_a_filter_is_a_picture_whose_grey_is_zero() -> None:
    network = network_of(spec_of())
    filters = features.filters_of(network)
    kernel = np.asarray(network.parameters["stem"]["conv"]["kernel"])
    assert np.array_equal(filters[2], kernel[..., 2])
    filters = np.concatenate([filters, np.zeros((1, 3, 3, 3))])
    tiles = features.tiles_of(filters)
    assert tiles.min() >= 0
    assert tiles.max() <= 1
    assert (tiles[-1] == 0.5).all()
    back = 2 * (tiles[0] - 0.5) * np.abs(filters[0]).max()
    assert np.allclose(back, filters[0], atol=1e-6)
    assert features.tiles_of(filters[..., :1]).shape == (5, 3, 3, 3)


def test_a_mosaic_has_every_picture_in_its_place() -> None:
    maps = np.arange(5 * 2 * 3, dtype=float).reshape(5, 2, 3)
    picture = features.mosaic(maps, 3)
    assert picture.shape == (5, 11)
    assert np.array_equal(picture[3:, 4:7], maps[4])
    assert np.isnan(picture[2]).all()
    assert np.isnan(picture[3:, 8:]).all()
    assert sorted(picture[~np.isnan(picture)]) == sorted(maps.ravel())


@pytest.mark.parametrize(("channels", "count"), [(16, 8), (64, 8), (4, 8), (5, 1)])
def test_channels_are_spread(channels: int, count: int) -> None:
    shown = features.shown_channels(channels, count)
    assert len(shown) == min(channels, count)
    assert shown[0] == 0
    assert count == 1 or shown[-1] == channels - 1


@pytest.mark.parametrize("data", ["synthetic", "digits"])
def test_the_same_network_gives_the_same_files(data: str, tmp_path: Path) -> None:
    from resnet_study.spec import from_flat

    values: dict[str, Any] = {"model.depth": 8, "model.width": 4, "data.name": data}
    network = network_of(from_flat(values))
    dataset = data_of(network.spec)
    images = features.images_at(dataset.test, [0, 7])
    found = features.features_of(network, CPU, images.images, dataset.mean)
    names = [str(label) for label in range(10)]
    written = []
    for name in ("once", "twice"):
        figure = features.draw(network, found, images, [0, 7], names, 4)
        texts = " ".join(text.get_text() for text in figure.texts)
        assert "residual-8" in texts
        titles = " ".join(panel.get_title(loc="left") for panel in figure.axes)
        assert f"7: {names[images.labels[1]]}" in titles
        assert f"→ {names[found.logits[1].argmax()]}" in titles
        written.append([file.read_bytes() for file in save(figure, tmp_path, name).values()])
    assert written[0] == written[1]


def test_what_cannot_be_shown_is_refused() -> None:
    network = network_of(spec_of())
    test = data_of(network.spec).test
    with pytest.raises(UserError, match="--images=128: positions in the test split are 0 to 127"):
        features.images_at(test, [0, 128])
    with pytest.raises(UserError, match="--images=-1: "):
        features.images_at(test, [-1])
    many = features.images_at(test, range(13))
    nothing = features.Features((), np.zeros((13, 10)))
    with pytest.raises(UserError, match="--images=13: 1 to 12 images"):
        features.draw(network, nothing, many, range(13), [], 4)
