"""One file a revision, in the order that `down_revision` tells."""
