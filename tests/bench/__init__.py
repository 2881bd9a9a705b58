"""How long a program stands still, and what a move costs: this service beside podman, ctr and bare containerd."""
