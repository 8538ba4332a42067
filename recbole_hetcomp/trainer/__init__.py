"""The training of students: RecBole's Trainer with hooks, batches of users, several processes, checkpoints that are data."""
