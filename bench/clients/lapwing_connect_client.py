"""Blocking connections of lapwing, each opened and closed."""

from _program import batches, read_options

import lapwing

options = read_options()
for batch in batches(options):
    for _ in range(batch):
        with lapwing.connect(options.url):
            pass
