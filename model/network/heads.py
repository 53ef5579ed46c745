"""Owns what is read off the rows: retrieval scores and action predictions.

Never ranks. The retrieval head reads an event row, the action head a candidate row.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import ActionTask, HSTUConfig


class RetrievalHead(nn.Module):
    """Similarity over temperature against the item table, with a prior for empty histories.

    The prior is the log share of training events per item; it is what the head answers when there
    is no row to read, and what an unknown user is served by.
    """

    prior: Tensor
    bias: nn.Parameter | None  # (items,)
    repeat: nn.Parameter | None  # ()

    def __init__(self, config: HSTUConfig) -> None:
        super().__init__()
        self._config = config
        self.register_buffer("prior", torch.full((config.num_items,), 1 / config.num_items).log())
        self.bias = nn.Parameter(torch.zeros(config.num_items)) if config.item_bias else None
        self.repeat = nn.Parameter(torch.zeros(())) if config.repeat_bias else None

    @property
    def repeat_logit(self) -> Tensor | None:
        """() what the logits of a history's items have beside; None: nothing."""
        return None if self.repeat is None else self.repeat / self._config.temperature

    def prepare(self, rows: Tensor) -> Tensor:
        """Event rows (..., D) as `forward` takes them: of unit length for cosine, and with a one
        for the items' bias where they have one."""
        queries = self._scale(rows)
        if self.bias is None:
            return queries
        return torch.cat((queries, queries.new_ones(*queries.shape[:-1], 1)), -1)

    def prepare_items(self, items: Tensor) -> Tensor:
        """The whole item table (items, D) as `forward` takes it, or any of its rows."""
        table = self._scale(items)
        return table if self.bias is None else torch.cat((table, self.bias.unsqueeze(1)), -1)

    def forward(self, queries: Tensor, items: Tensor) -> Tensor:
        """Prepared queries (..., D) and item rows (M, D) -> logits (..., M)."""
        return (queries / self._config.temperature) @ items.T  # far fewer numbers to divide

    def add_repeat_(self, logits: Tensor, history: Tensor) -> Tensor:
        """Logits of the catalogue (items,) by a history with the items (N,): add what those have
        beside, in place."""
        if (more := self.repeat_logit) is not None:
            logits[history] += more  # once for each, however often it is there
        return logits

    def _scale(self, x: Tensor) -> Tensor:
        if self._config.similarity == "dot":
            return x
        return F.normalize(x, dim=-1, eps=self._config.similarity_eps)


class ActionHead(nn.Module):
    """Logits per action from a candidate row, grouped into tasks."""

    def __init__(self, config: HSTUConfig) -> None:
        super().__init__()
        self._tasks = config.tasks
        self.hidden = nn.Linear(config.d_model, config.d_model)
        self.logits = nn.Linear(config.d_model, len(config.actions))

    def forward(self, rows: Tensor) -> Tensor:
        """Candidate rows (..., D) -> action logits (..., number of actions)."""
        out: Tensor = self.logits(F.silu(self.hidden(rows)))
        return out

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax within each multi-class task, sigmoid in each multi-label one; same shape."""
        if len(self._tasks) == 1:
            return _probabilities(self._tasks[0], logits)
        groups = logits.split([len(task.actions) for task in self._tasks], dim=-1)
        return torch.cat(
            [_probabilities(*pair) for pair in zip(self._tasks, groups, strict=True)], dim=-1
        )


def _probabilities(task: ActionTask, logits: Tensor) -> Tensor:
    return logits.softmax(-1) if task.kind == "multiclass" else logits.sigmoid()
