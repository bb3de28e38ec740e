"""What dev.py is made of: the environment, the processes and the commands. It needs only the standard library."""
