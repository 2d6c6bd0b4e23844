"""What is known of how the native engine was built."""

from __future__ import annotations

import re

from lapwing.protocol import BUILD, apply_mask


def test_the_build() -> None:
    # The type of a Cython function is defined in a module that is named for the version.
    assert type(apply_mask).__module__.startswith("_cython_" + BUILD["cython"].replace(".", "_"))
    assert re.search(r"\d+\.\d+|MSVC \d+", BUILD["compiler"])
    assert all(type(BUILD[flag]) is bool for flag in ("optimised", "sanitized", "traced"))
