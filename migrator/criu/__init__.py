"""CRIU: which version this host has, and what its log means when it refuses."""
