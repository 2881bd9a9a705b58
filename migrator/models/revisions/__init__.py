"""Schema revisions, applied by `migrator.models.schema.upgrade`."""
