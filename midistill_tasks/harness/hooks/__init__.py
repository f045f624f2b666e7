"""What `plugin/` does to the harness once one of its modules is imported."""
