"""Owns the running average of a network's weights over the steps of a run.

Never trains: the weights that are stepped are the network's own.
"""

from typing import cast

from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from model.network.hstu import HSTU


class Average:
    """What of a run is measured and becomes its checkpoint: an average, or the network itself."""

    def __init__(self, network: HSTU, keeps: float) -> None:
        """At each step the average keeps the share `keeps` of itself; with 0 there is none."""
        self._stepped = network
        rule = get_ema_multi_avg_fn(keeps)
        self.model = AveragedModel(network, multi_avg_fn=rule) if keeps else None

    @property
    def network(self) -> HSTU:
        return self._stepped if self.model is None else cast(HSTU, self.model.module)

    def update(self) -> None:
        """After a step."""
        if self.model is not None:
            self.model.update_parameters(self._stepped)
