class InputError(ValueError):
    """Something that the user gave is wrong: a config key, a path, a checkpoint, a data set.

    Its text is one line: what is wrong, where, what to do. The command-line tools print that line and exit with 2.
    """
