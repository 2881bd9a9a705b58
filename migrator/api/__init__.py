"""The gRPC API: servicers of a few lines over the control plane, one place for errors, one for messages."""
