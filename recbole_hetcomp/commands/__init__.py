"""One file a command of `hetcomp`: run (pipeline), benchmark, tune."""
