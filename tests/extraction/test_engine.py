"""An engine gives each row once, and tells how its codes are made."""

from __future__ import annotations

import numpy as np
from tiny_network import Staged, own

from cnncodes.extraction.engine import ThisProcess, Work
from cnncodes.extraction.settings import Settings, build_network, describe_network
from cnncodes.images.image_set import ImageSet
from cnncodes.runtime.workload import Workload

SETTINGS = Settings(backbone="own", layers=["layer2", "layer3"], precision="fp32", batch_size=4, compile=False)


def test_this_process_gives_each_row_once_and_only_the_layers_that_are_wanted() -> None:
    own(Staged)
    images = ImageSet([str(i) for i in range(10)], list(np.zeros((10, 32, 32, 3), np.uint8)))
    with ThisProcess().start(SETTINGS, Workload(10), warm=True) as engine:
        batches = list(engine.batches(images, np.arange(1, 10), ["layer2"], Work(1)))
        assert sorted(np.concatenate([batch.rows for batch in batches]).tolist()) == list(range(1, 10))
        assert all(batch.codes.keys() == {"layer2"} and batch.thumbnails is None for batch in batches)
        assert engine.facts.provenance.to_json() == describe_network(build_network(SETTINGS)).to_json()
        assert engine.facts.default_layers == ("layer1", "layer2", "layer3", "layer4", "penultimate")
        assert (engine.facts.default_pooling, list(engine.nodes)) == ("avg", [])
