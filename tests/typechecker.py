"""The runtime type checker of the tests: beartype, taking an int for a float as PEP 484 does."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
