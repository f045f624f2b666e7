"""What changes a student so that it leaks less, and the controls; see `midistill_tasks.methods`."""
