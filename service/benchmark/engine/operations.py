"""Owns counting the floating-point operations of the matrix products that an exact answer needs.

Never counts norms, SiLU, biases or look-ups: the time these products would take at the machine's
matrix rate is a floor that no exact engine gets under. A product and its sum are two operations.
"""

from dataclasses import dataclass

from model.config import HSTUConfig


@dataclass(frozen=True, slots=True)
class Operations:
    """Of one network of the native form: a gated output, no FFN."""

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
        return last * whole + only_kept + self._linear + stop * self._pair

    def score(self, num_events: int, num_candidates: int) -> int:
        """Candidates that see the history and themselves, and the action head."""
        config = self.config
        a_layer = self._linear + (num_events + 1) * self._pair
        head = 2 * config.d_model * (config.d_model + len(config.actions))
        return num_candidates * (config.num_layers * a_layer + head)

    def square(self, num_rows: int) -> int:
        """All layers over rows each of which is multiplied with every other, the future too."""
        return self.config.num_layers * num_rows * (self._linear + num_rows * self._pair)

    def retrieve(self) -> int:
        """The whole catalogue for one user."""
        return 2 * self.config.d_model * self.config.num_items

    @property
    def _linear(self) -> int:
        """Of a row in a layer: u, v, q and k, and the output's projection."""
        config = self.config
        values, keys = config.num_heads * config.v_dim, config.num_heads * config.qk_dim
        return 2 * config.d_model * (2 * values + 2 * keys + values)

    @property
    def _keys_and_values(self) -> int:
        config = self.config
        return 2 * config.d_model * config.num_heads * (config.qk_dim + config.v_dim)

    @property
    def _pair(self) -> int:
        """Of a row that sees a key, in a layer."""
        return 2 * self.config.num_heads * (self.config.qk_dim + self.config.v_dim)
