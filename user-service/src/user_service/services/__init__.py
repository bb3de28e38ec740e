"""What may happen to accounts and sessions, and in which order.

A password hash takes long, so none is computed while a database connection is held: read, hash, then write. What was
read before the hash may have changed until the write, so that the write locks the account's row and looks again.
"""
