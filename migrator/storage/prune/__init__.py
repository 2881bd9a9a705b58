"""Prune: free what no checkpoint needs, in two phases with a grace time between them. See docs/backups.md."""
