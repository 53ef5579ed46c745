"""Owns counting the floating-point operations of the matrix products that an exact answer needs.

Never counts norms, activations, biases or look-ups, nor padding, nor what is computed twice to save
memory: the count is of the formulation, not of how it is run. A product and its sum are two
operations.
"""

from dataclasses import dataclass

from model.config import HSTUConfig


@dataclass(frozen=True, slots=True)
class Operations:
    """Of one network."""

    config: HSTUConfig

    def encode(self, first: int, stop: int) -> int:
        """Event rows `first` to `stop - 1`, the last of which is the pending one.

        A row sees itself and the rows before it. In the last layer only the pending row's output
        is read: of the others K and V are needed, and no attention.
        """
        rows, last = stop - first, self.config.num_layers - 1
        pairs = (stop * (stop + 1) - first * (first + 1)) // 2
        whole = rows * self._linear + pairs * self._pair
        only_kept = (rows - 1) * self._keys_and_values
        return last * whole + only_kept + self._linear + stop * self._pair + rows * self._fusion

    def score(self, num_events: int, num_candidates: int) -> int:
        """Candidates that see the history and themselves, and the action head."""
        a_layer = self._linear + (num_events + 1) * self._pair
        around = self._fusion + self._action_head
        return num_candidates * (self.config.num_layers * a_layer + around)

    def square(self, num_rows: int) -> int:
        """All layers over rows each of which is multiplied with every other, the future too."""
        return self.config.num_layers * num_rows * (self._linear + num_rows * self._pair)

    def retrieve(self, num_items: int | None = None) -> int:
        """One row against the whole catalogue, or as many items of it."""
        return 2 * self.config.d_model * (num_items or self.config.num_items)

    def learn_items(self, num_events: int, num_items: int | None = None) -> int:
        """A training step's part for a window: each event but the first is predicted.

        The backward pass has two products for each of the forward's.

        Args:
            num_items: that a target competes with, itself included; left out: the catalogue
        """
        rows = num_events - 1
        forward = self._causal(rows) + rows * self.retrieve(num_items)
        return 3 * forward

    def learn_actions(self, num_events: int) -> int:
        """The same for the action of each event, read off a candidate row."""
        return 3 * (self._causal(num_events) + num_events * self._action_head)

    def _causal(self, rows: int) -> int:
        """All layers over rows each of which sees itself and as many others as come before it."""
        pairs = rows * (rows + 1) // 2
        layers = self.config.num_layers * (rows * self._linear + pairs * self._pair)
        return layers + rows * self._fusion

    @property
    def _fusion(self) -> int:
        """Of an input row."""
        products = {"sum": 0, "gate": 2, "mlp": 3}[self.config.fusion] if self.config.tasks else 0
        return 2 * products * self.config.d_model**2

    @property
    def _linear(self) -> int:
        """Of a row in a layer: gate, v, q and k, the output's projection, the FFN."""
        config = self.config
        values, keys = config.num_heads * config.v_dim, config.num_heads * config.qk_dim
        gate = 0 if config.gate == "none" else values
        out = {"gated": 1, "concat_ua": 3, "unprojected": 0}[config.output] * values
        ffn = 2 * config.ffn_multiple * config.d_model
        return 2 * config.d_model * (gate + values + 2 * keys + out + ffn)

    @property
    def _keys_and_values(self) -> int:
        config = self.config
        return 2 * config.d_model * config.num_heads * (config.qk_dim + config.v_dim)

    @property
    def _pair(self) -> int:
        """Of a row that sees a key, in a layer."""
        return 2 * self.config.num_heads * (self.config.qk_dim + self.config.v_dim)

    @property
    def _action_head(self) -> int:
        """Of a candidate row."""
        return 2 * self.config.d_model * (self.config.d_model + len(self.config.actions))
