"""The drain of a host, and the way back of what it moved."""
