"""Encryption at rest and signatures: nothing leaves this process readable, nothing comes in that we did not write.

`ring` holds the deployment's keys and `source` finds them; `data_keys` wraps one key a checkpoint; `segments` is the
encrypted object and `names` its name; `store` puts them around any object store; `signatures` vouch for indexes.
"""
