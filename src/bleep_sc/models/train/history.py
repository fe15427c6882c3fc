"""Record how far a training has come, and tell when it is over."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class History:
    """The losses of a training by epoch. `best_epoch` counts from 0."""

    train_loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    best_epoch: int = -1

    @property
    def epochs(self) -> int:
        """Number of epochs whose losses are known."""
        return len(self.train_loss)

    def has_waited(self, patience: int) -> bool:
        """Tell whether the last `patience` epochs brought no better loss. With a patience of 0 it is never so."""
        return 0 < patience <= self.epochs - 1 - self.best_epoch

    def epochs_left(self, max_epochs: int, patience: int) -> int:
        """Return the number of epochs that may follow."""
        return 0 if self.has_waited(patience) else max(0, max_epochs - self.epochs)

    def first(self, epochs: int) -> "History":
        """Return the losses of the first epochs alone. The best epoch, which stays the same, must be among them."""
        return History(self.train_loss[:epochs], self.validation_loss[:epochs], self.best_epoch)


@dataclass
class Standing:
    """The results of a training so far, besides the weights with which it goes on."""

    history: History = field(default_factory=History)
    best: dict[str, Tensor] = field(default_factory=dict)
    """Weights of the best epoch, on the CPU. Empty without validation, since the best epoch is then the last."""
