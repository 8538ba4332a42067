"""Training RecBole models: teachers, recorded on the way and kept as lists, and the student without teachers."""
