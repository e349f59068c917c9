"""The one exception a user is meant to see: a sentence that says what is wrong and what is allowed."""


class SeamlineError(Exception):
    """Something the user can mend; its text is one sentence naming file, record, value and what is allowed."""


def not_installed(what: str, error: ModuleNotFoundError) -> SeamlineError:
    """For a package that not every installation has, since only some need it."""
    return SeamlineError(f"{what}: needs {error.name}, which is not installed; docs/models.md says what brings it.")
