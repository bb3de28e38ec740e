"""Use cases for accounts and sessions.

Hashing a password is slow, so a use case holds no database connection meanwhile: it reads, hashes, then writes. The
account may change between the read and the write, so the write locks its row and checks again.
"""
