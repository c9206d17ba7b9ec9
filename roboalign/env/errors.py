"""The error of the environments."""


class EnvError(ValueError):
    """An argument, an option or an action of an environment is not valid; the message, one line, says what to do."""
