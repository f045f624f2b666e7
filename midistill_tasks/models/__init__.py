"""Models: loading, the architectures of students, surgery, saving, export."""
