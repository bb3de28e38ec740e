"""The implementation of dev.py: the environment, the processes and the commands. It needs only the standard library."""
