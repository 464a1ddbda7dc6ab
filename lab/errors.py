"""What the user's side raises."""

from __future__ import annotations


class UserError(Exception):
    """The user asked for something that cannot be done.

    The text is one line that names the value, what was expected, and the way
    out. The command line prints it as ``stage2: error: TEXT`` and exits with
    status 2; a library user catches it. Anything else that escapes is a bug.
    """
