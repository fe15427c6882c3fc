"""Import Lightning, which runs the training loop, here only, since its import draws a random number."""

from bleep_sc._side_effects import python_random_state_kept

with python_random_state_kept():
    import lightning as L
    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.plugins.environments import (
        LightningEnvironment,
        SLURMEnvironment,
        TorchElasticEnvironment,
    )
    from lightning.pytorch.utilities.exceptions import SIGTERMException

__all__ = ["Callback", "L", "LightningEnvironment", "SIGTERMException", "SLURMEnvironment", "TorchElasticEnvironment"]
