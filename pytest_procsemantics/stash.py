"""Every key of ours in pytest's stashes, with who writes it and who reads it.

Nothing of ours is an attribute of config, session or item.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_procsemantics.catalogue import Clause
    from pytest_procsemantics.report.matrix import Matrix
    from pytest_procsemantics.report.results import Results
    from pytest_procsemantics.settings import Settings

# In config.stash.
SETTINGS: pytest.StashKey[Settings] = pytest.StashKey()  # pytest_configure -> fixtures, report
RESULTS: pytest.StashKey[Results] = pytest.StashKey()  # only where the summary is written
MATRIX: pytest.StashKey[Matrix] = pytest.StashKey()  # likewise, with --procsem-prove
# The target's greeting as plain strings: spec, release, machine, and whatever else tells targets
# apart. Written by whoever starts the target, as soon as it has answered.
FACTS: pytest.StashKey[dict[str, str]] = pytest.StashKey()
# A descriptor of the standard error that pytest was started with. Fixtures -> spawners.
TERMINAL: pytest.StashKey[int] = pytest.StashKey()

# In item.stash, for checks only.
CLAUSES: pytest.StashKey[tuple[Clause, ...]] = pytest.StashKey()  # collection -> fixtures, report
# Its name where --procsem-prove has put into that what is told. -> report
NAME: pytest.StashKey[str] = pytest.StashKey()
LIE: pytest.StashKey[str] = pytest.StashKey()  # --procsem-prove -> report; the name of the lie told
# What came of it in the call phase, before pytest's report of it: values of procsem.noticed and procsem.by.
CAME: pytest.StashKey[tuple[str, str]] = pytest.StashKey()  # within lies.prove
TRANSCRIPT: pytest.StashKey[object] = pytest.StashKey()  # fixtures -> report; str() gives the text
