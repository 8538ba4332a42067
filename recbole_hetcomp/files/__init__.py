"""Files that several processes share: written at once, locked while they are made, cleared away after a kill."""
