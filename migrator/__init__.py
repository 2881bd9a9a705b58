"""Live migration and running-state backup for containers under containerd."""
