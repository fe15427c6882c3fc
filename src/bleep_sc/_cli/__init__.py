"""The command line `bleep-sc`: the package's functions on files, for pipelines."""
