from typing import Literal

By = Literal["spots", "sections", "patients"]
"""What the size of a reference is counted in."""
