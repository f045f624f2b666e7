"""Texts that models write: the teacher's to distil on, the student's own to be corrected on."""
