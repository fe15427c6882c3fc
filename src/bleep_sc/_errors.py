class MissingKeyError(KeyError):
    """A key that should be in the AnnData is not there.

    A `KeyError` whose text reads as it was written: Python shows the `repr` of a plain one.
    """

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""
