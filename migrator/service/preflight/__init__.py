"""Can this container be checkpointed here, and restored there? One subject a file; nothing here touches anything."""
