"""Context-aware models that RecBole lacks: they predict clicks of rows, alone, as a teacher or as the student."""
