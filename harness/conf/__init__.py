"""Configuration: what the YAML files say, read, checked and typed.

`read` parses YAML and remembers the line of every value, `model` says what there may be, `load` puts files together;
`units` and `naming` hold what programs' headers may say too.
May import the modules at the bottom alone. Must not know what the values are used for; it opens no file but the YAML
files themselves. `system` holds the ways of operating systems.
"""

from harness.conf.load import Configuration, load, recorded
from harness.conf.model import (
    EXCHANGE_INDEX,
    SEED,
    Build,
    DataDisk,
    Disk,
    Expected,
    Guest,
    Module,
    Record,
    Toolchain,
    Variant,
)

__all__ = [
    "EXCHANGE_INDEX",
    "SEED",
    "Build",
    "Configuration",
    "DataDisk",
    "Disk",
    "Expected",
    "Guest",
    "Module",
    "Record",
    "Toolchain",
    "Variant",
    "load",
    "recorded",
]
