"""Training RecBole models: teachers, recorded on the way and cached as lists, and the student without teachers."""
