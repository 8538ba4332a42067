"""The distillation methods, one file each: a student's loss, and what it takes from the teachers."""
