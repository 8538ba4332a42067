"""Students and what they share; the models themselves lie in the folders, one file each, in RecBole's way."""
