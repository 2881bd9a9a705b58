"""Bind mounts that move with their container: what was declared, their content as a tar, their places on a target."""
