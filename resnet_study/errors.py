"""The one exception that a user should ever see: one line, exit code 2."""


class UserError(Exception):
    """Something the user can mend.

    The message is a single line that says what is wrong, where, and how to mend
    it. The command line prints it without a traceback and exits with code 2.
    """
