"""The one exception a user is meant to see: a sentence that says what is wrong and what is allowed."""


class SeamlineError(Exception):
    """Something the user can mend; its text is one sentence naming file, record, value and what is allowed."""
