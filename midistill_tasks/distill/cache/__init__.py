"""What a teacher said, on disk: written once, read by any number of students."""
