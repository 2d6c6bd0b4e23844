"""Making a release: wheels for each Python and platform, their checks, and what would be uploaded."""
